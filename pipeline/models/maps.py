"""What a merge decides about one picture, in its own pixels.

A merge gives one of these a picture; `runs.segments_of` turns a batch of them into segments. Pixels
stay on the model's device until then, column by column, as COCO's run lengths are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

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
