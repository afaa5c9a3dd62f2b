"""Rectangles in a flat buffer, and the pixels that read some cells."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_outputs import frame_of

from pipeline.models.grids.maps import boxes_of_cells, place_rectangles


def test_places_do_not_overlap_and_a_0_follows_each_column():
    boxes = np.array([[1, 2, 3, 4], [0, 0, 2, 9], [5, 5, 0, 0], [7, 0, 1, 8]])
    laid = place_rectangles(boxes, 9)
    assert laid.strides.tolist() == [5, 9, 1, 9]
    buffer = torch.zeros(laid.size, dtype=torch.uint8)
    for index, (_, _, width, height) in enumerate(boxes.tolist()):
        plane = laid.plane(buffer, index)
        assert plane.shape == (width, height)
        assert not plane.any()
        plane[:] = 1
    assert int(buffer.sum()) == 3 * 4 + 2 * 9 + 8
    ends = [*laid.offsets[1:].tolist(), laid.size]
    assert not buffer[np.array(ends) - 1].any()
    assert not buffer[[4, 9, 14]].any()  # below each column of the first


@settings(max_examples=60)
@given(
    grid_hw=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    picture_hw=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    content=st.sampled_from([1.0, 0.6]),
    ends=st.tuples(*[st.integers(-1, 9)] * 4),
)
def test_a_box_holds_just_the_pixels_that_read_the_cells(grid_hw, picture_hw, content, ends):
    y, x = frame_of(picture_hw, grid_hw, content).axes(grid_hw)
    ((left, top, wide, high),) = boxes_of_cells(np.array([ends]), y, x).tolist()
    columns = (x.high >= ends[0]) & (x.low <= ends[2]) & (ends[2] >= ends[0])
    rows = (y.high >= ends[1]) & (y.low <= ends[3]) & (ends[3] >= ends[1])
    expected = np.outer(rows, columns)
    found = np.zeros(picture_hw, np.bool_)
    found[top : top + high, left : left + wide] = True
    assert np.array_equal(found, expected)
