"""What a merge decides about one picture, in its own pixels.

A merge gives one of these a picture; `runs.segments_of` turns a batch of them into segments. Pixels
stay on the model's device until then, column by column, as COCO's run lengths are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .geometry import Axis

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in a picture: n entries. One of which no pixel is visible is no segment.

    Attributes:
        labels: n, index of the category among the model's outputs.
        scores: n, in 0…1.
        agreement: n, in 0…1, of test-time augmentation; None without.
    """

    labels: Ints
    scores: Floats
    agreement: Floats | None = None


@dataclass(frozen=True, slots=True)
class LabelMap:
    """A picture cut into regions that do not overlap: semantic and panoptic.

    Attributes:
        labels: H×W uint8 or int16, 0 = nothing, else 1 + index into `found`. A transposed view of
            a contiguous W×H tensor: the pixels of a column are neighbours in memory.
        found: The regions, in the order that segments are to have.
    """

    labels: Tensor
    found: Found


@dataclass(frozen=True, slots=True)
class MaskStack:
    """Masks that may overlap, each kept inside a rectangle only: instances.

    Attributes:
        picture_hw: Of the picture, pixels.
        pixels: Flat uint8, 1 inside and 0 outside: the m rectangles one after the other, each
            column by column with `strides` places a column, and at least one 0 after each.
        offsets: m, where each rectangle begins in `pixels`.
        boxes_xywh: m×4, the rectangles in the picture, pixels.
        strides: m, the rectangle's height + 1, where the last place is 0; of one as high as the
            picture just its height, so that a run goes on in the next column.
        planes: n, which of the m masks each entry of `found` has.
        found: The segments, in the order that they are to have.
    """

    picture_hw: tuple[int, int]
    pixels: Tensor
    offsets: Ints
    boxes_xywh: Ints
    strides: Ints
    planes: Ints
    found: Found


# Rectangles of a picture, one after the other in a flat buffer: where masks are painted.


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


def place_rectangles(boxes_xywh: Ints, height: int) -> Rectangles:
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


# Masks painted inside rectangles, before it is decided which of them are segments.


@dataclass(frozen=True, slots=True)
class Painted:
    """Masks of m queries of a picture.

    Attributes:
        rectangles: Where they lie in `pixels`.
        pixels: Flat uint8 on the device.
        areas: m, pixels inside.
        sums: m, of the probabilities inside.
    """

    rectangles: Rectangles
    pixels: Tensor
    areas: Ints
    sums: Floats


@dataclass(frozen=True, slots=True)
class Rules:
    """How queries compete: by score × mask probability. Without rules, bare values compete.

    Attributes:
        scores: K float32.
        mask_threshold: Least score × mask probability of a pixel that a query calls its own.
    """

    scores: Tensor
    mask_threshold: float


@dataclass(frozen=True, slots=True)
class Winners:
    """The outcome of a picture.

    Attributes:
        labels: W×H, contiguous: 1 + index of the winning map, the first of equals.
        visible: K, pixels that each map won; not counted (zeros) without rules.
        own: K, pixels at or above the mask threshold, won or not; zeros without rules.
    """

    labels: Tensor
    visible: Ints
    own: Ints


def label_dtype(count: int) -> torch.dtype:
    """The smallest type that holds 0…count."""
    return torch.uint8 if count < 256 else torch.int16


@dataclass(frozen=True, slots=True)
class Regions:
    """The n regions of a map that have pixels, ascending.

    Attributes:
        index: n, label − 1 in a label map, number of the mask in a stack.
        texts: n compressed RLE strings.
        areas: n, pixels.
        boxes_xywh: n×4, tight, pixels.
    """

    index: Ints
    texts: list[bytes]
    areas: Ints
    boxes_xywh: Ints


def buffer_of(each: LabelMap | MaskStack) -> Tensor:
    """A map's values in column-major order, flat."""
    return each.labels.T.reshape(-1) if isinstance(each, LabelMap) else each.pixels
