import os

import pytest

from pipeline.ledger.processes import map_in_order, processors


def double(value):
    return 2 * value


def test_one_process_takes_one_piece_at_a_time():
    taken = []
    results = map_in_order(lambda value: taken.append(value), iter("ab"), workers=1, name="any")
    next(results)
    assert taken == ["a"]
    assert [*results] == [None]
    assert taken == ["a", "b"]


def test_results_come_in_the_order_of_the_work():
    assert list(map_in_order(double, range(20), workers=2, name="any")) == list(range(0, 40, 2))


def test_a_process_that_dies_is_one_line():
    with pytest.raises(OSError, match=r"a measuring process died.*fewer --workers"):
        list(map_in_order(os._exit, [1, 1], workers=2, name="measuring"))


def test_processors():
    assert 1 <= processors() <= os.cpu_count()
