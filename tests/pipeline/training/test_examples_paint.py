"""Segments become maps: what lies on top, what teaches nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.evaluation.sources.source import make_segments, segments_of_map
from pipeline.masks import codec
from pipeline.training.examples import IGNORE, paint_label_map

INDEX = {3: 0, 7: 1, 90: 2}


@given(
    arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3))
)
def test_a_map_survives_the_way_through_segments(label_map):
    ids = dict(zip((1, 2, 3), INDEX, strict=True))
    painted = paint_label_map(segments_of_map(label_map, ids), INDEX)
    expected = np.array([IGNORE, 0, 1, 2])[label_map]
    assert painted.dtype == np.int16
    np.testing.assert_array_equal(painted, expected)


def boxes(*corners: tuple[int, int, int, int]) -> list[bytes]:
    found = []
    for top, left, bottom, right in corners:
        mask = np.zeros((8, 8), np.uint8)
        mask[top:bottom, left:right] = 1
        found.append(codec.encode(mask))
    return found


def test_the_smaller_lies_on_top_whatever_the_order():
    counts = boxes((2, 2, 4, 4), (0, 0, 8, 6))
    painted = paint_label_map(make_segments(8, 8, counts, [3, 7]), INDEX, rest=2)
    assert painted[3, 3] == 0
    assert painted[6, 3] == 1
    assert painted[0, 7] == 2
    again = paint_label_map(make_segments(8, 8, counts[::-1], [7, 3]), INDEX, rest=2)
    np.testing.assert_array_equal(again, painted)


def test_crowds_lie_below_and_may_be_ignored():
    counts = boxes((0, 0, 2, 2), (0, 0, 8, 8))
    segments = make_segments(8, 8, counts[::-1], [7, 3], iscrowd=[True, False])
    assert set(np.unique(paint_label_map(segments, INDEX, rest=2))) == {0, 1}
    ignored = paint_label_map(segments, INDEX, rest=2, crowds=False)
    assert ignored[0, 0] == 0
    assert ignored[5, 5] == IGNORE


def test_unsure_segments_teach_nothing_and_missing_scores_are_sure():
    counts = boxes((0, 0, 4, 8), (4, 0, 6, 8), (6, 0, 8, 8))
    segments = make_segments(8, 8, counts, [3, 7, 90], scores=[0.4, 0.9, None])
    painted = paint_label_map(segments, INDEX, rest=0, min_score=0.5)
    assert [painted[row, 0] for row in (0, 4, 6)] == [IGNORE, 1, 2]


def test_an_unknown_category_is_named():
    with pytest.raises(ValueError, match="category 8 is not in the table"):
        paint_label_map(make_segments(8, 8, boxes((0, 0, 1, 1)), [8]), INDEX)
