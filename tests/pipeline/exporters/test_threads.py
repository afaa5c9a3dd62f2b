"""The ordered, bounded map over threads."""

from __future__ import annotations

import threading
import time

import pytest

from pipeline.exporters.threads import bounded_map


def test_order_is_kept():
    def slow_at_first(number: int) -> int:
        time.sleep(0.02 if number == 0 else 0)
        return number * number

    assert list(bounded_map(slow_at_first, range(40), threads=4)) == [n * n for n in range(40)]
    assert list(bounded_map(slow_at_first, [], threads=2)) == []


def test_items_are_drawn_only_a_little_ahead():
    drawn = 0

    def items():
        nonlocal drawn
        for number in range(1000):
            drawn += 1
            yield number

    results = bounded_map(lambda number: number, items(), threads=2)
    for taken in range(10):
        assert next(results) == taken
        assert drawn <= taken + 1 + 4
    results.close()
    assert drawn < 20


def test_an_error_comes_out_and_the_threads_end():
    def fail(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    before = threading.active_count()
    with pytest.raises(ValueError, match="three"):
        list(bounded_map(fail, range(100), threads=2))
    assert threading.active_count() == before
