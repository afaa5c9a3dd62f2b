import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.measuring.summary import Distribution


def distribute(values, *scales, within=None):
    distribution = Distribution(scales, within)
    pieces = np.array_split(np.array(values, np.float64), 3)
    for piece in pieces:
        distribution.see(piece)
    for piece in pieces:
        distribution.count(piece)
    return distribution.to_json()


@given(st.lists(st.floats(1e-3, 1e7), min_size=1, max_size=200))
def test_every_value_is_counted_once_inside_the_edges(values):
    found = distribute(values, "log", "linear")
    assert found["spread"]["count"] == len(values)
    for scale in ("log", "linear"):
        edges, counts = found[scale]["edges"], found[scale]["counts"]
        assert sum(counts) == len(values)
        assert len(edges) == len(counts) + 1 <= 120
        assert edges == sorted(edges)
        slack = 1e-5 * max(values)
        assert edges[0] <= min(values) + slack
        assert edges[-1] >= max(values) - slack
        assert counts[0] or scale == "linear"


def test_a_histogram_is_right():
    found = distribute([0, 0.05, 0.1, 0.95, 1, float("nan")], "linear", within=(0, 1))
    assert found["spread"] == {"count": 5, "low": 0, "mean": 0.42, "high": 1}
    assert found["linear"]["edges"] == pytest.approx(np.arange(11) / 10)
    assert found["linear"]["counts"] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]


def test_what_lies_beyond_the_bounds_is_seen_but_not_counted():
    found = distribute([0.5, 1, 40], "linear", within=(0, 2))
    assert found["spread"]["high"] == 40
    assert found["linear"]["edges"][-1] == 2
    assert sum(found["linear"]["counts"]) == 2


@pytest.mark.parametrize("value", [0.0, -3.0, 7.0])
def test_one_value_many_times(value):
    found = distribute([value] * 50, "linear")
    assert sum(found["linear"]["counts"]) == 50
    assert max(found["linear"]["counts"]) == 50


def test_nothing():
    found = distribute([float("nan")], "linear")
    assert found == {"spread": None, "linear": {"edges": [], "counts": []}}
