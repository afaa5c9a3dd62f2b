from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.survey import LinearHistogram, LogHistogram, ScoreHistogram, Spread, score_bin

BATCHES = st.lists(st.lists(st.integers(1, 10**7), max_size=30), max_size=6)


@given(BATCHES)
def test_linear_counts_what_numpy_counts_whatever_the_batches(batches):
    histogram = LinearHistogram()
    for batch in batches:
        histogram.add(np.array(batch, np.int64))
    values = [value for batch in batches for value in batch]
    found = histogram.to_json()
    edges, counts = found["edges"], found["counts"]
    if values:
        # numpy closes the last bin, ours are all half-open.
        expected = np.histogram(values, [*edges[:-1], edges[-1] - 0.5])[0]
        assert counts == expected.tolist()
    assert sum(counts) == len(values)
    assert len(counts) <= 40


@given(BATCHES)
def test_log_counts_what_numpy_counts(batches):
    histogram = LogHistogram()
    for batch in batches:
        histogram.add(np.array(batch, np.int64))
    values = [value for batch in batches for value in batch]
    found = histogram.to_json()
    counts = dict(zip(found["edges"], found["counts"], strict=False))
    expected: dict[float, int] = {}
    for value in values:
        step = max(k for k in range(60) if 10**k <= value**8)  # exact: 10^(k/8) ≤ value
        edge = round(10 ** (step / 8), 3)
        expected[edge] = expected.get(edge, 0) + 1
    assert {edge: count for edge, count in counts.items() if count} == expected


def test_powers_of_ten_open_a_bin():
    histogram = LogHistogram()
    histogram.add(np.array([1, 10, 100, 1000]))
    found = histogram.to_json()
    assert [edge for edge, n in zip(found["edges"], found["counts"], strict=False) if n] == [
        1,
        10,
        100,
        1000,
    ]


def test_score_bins_take_32_bit_edges_upward_and_one_into_the_last():
    scores = np.array([i / 20 for i in range(21)], np.float32)
    assert score_bin(scores).tolist() == [*range(20), 19]
    histogram = ScoreHistogram()
    histogram.add(scores)
    assert histogram.to_json()["counts"] == [1] * 19 + [2]


def test_nothing_gives_empty_histograms():
    for empty in (LinearHistogram(), LogHistogram(), ScoreHistogram()):
        assert empty.to_json() == {"edges": [], "counts": []}
    assert Spread().to_json() is None


def test_spread_over_batches():
    spread = Spread()
    for batch in ([3, 1], [], [8]):
        spread.add(np.array(batch, np.int64))
    assert spread.to_json() == {"count": 3, "low": 1, "mean": 4, "high": 8}
