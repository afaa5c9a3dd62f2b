"""Rectangles of a picture, one after the other in a flat buffer: where masks are painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from .frame import Axis
from .maps import Ints


@dataclass(frozen=True, slots=True)
class Rectangles:
    """m rectangles; see `MaskStack`.

    Attributes:
        boxes_xywh: m×4, pixels of the picture; width and height may be 0.
        offsets: m, where each begins in the buffer.
        strides: m, places of a column.
        size: Of the whole buffer.
    """

    boxes_xywh: Ints
    offsets: Ints
    strides: Ints
    size: int

    def plane(self, buffer: Tensor, index: int) -> Tensor:
        """One rectangle's width×height part of the buffer: a view, columns first."""
        _, _, width, height = self.boxes_xywh[index].tolist()
        start, stride = int(self.offsets[index]), int(self.strides[index])
        return buffer[start : start + width * stride].view(width, stride)[:, :height]


def lay_out(boxes_xywh: Ints, height: int) -> Rectangles:
    """Gives each rectangle its place.

    Args:
        boxes_xywh: m×4, pixels.
        height: Of the picture, pixels.
    """
    boxes = boxes_xywh.reshape(-1, 4)
    full = boxes[:, 3] == height
    strides = boxes[:, 3] + ~full  # a 0 ends each column, unless its run may go on in the next
    sizes = boxes[:, 2] * strides + 1
    offsets = np.cumsum(sizes) - sizes
    return Rectangles(boxes, offsets, strides, int(sizes.sum()))


def boxes_of_cells(cells_xyxy: Ints, y: Axis, x: Axis) -> Ints:
    """The pixels that read any of some cells.

    Args:
        cells_xyxy: m×4: first column, first row, last column, last row of the grid, inclusive;
            where the last is before the first there is none.
        y: How rows are read.
        x: How columns are read.

    Returns:
        m×4 xywh, pixels.
    """
    boxes = np.zeros((len(cells_xyxy), 4), np.int64)
    for side, axis in ((0, x), (1, y)):
        first = np.searchsorted(axis.high, cells_xyxy[:, side], side="left")
        stop = np.searchsorted(axis.low, cells_xyxy[:, side + 2], side="right")
        boxes[:, side], boxes[:, side + 2] = first, np.maximum(stop - first, 0)
    boxes[(cells_xyxy[:, 2:] < cells_xyxy[:, :2]).any(1)] = 0
    return boxes
