"""What a merge decides about one picture, in its own pixels, still on the model's device.

A merge gives one of these a picture; `runs.segments_of` turns a batch of them into segments. They
are column-major, as COCO's run lengths are, so that runs are found in one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in a picture: n entries, on the device (reading one waits for it).

    An entry of which no pixel is visible is no segment.

    Attributes:
        labels: n int64, index of the category among the model's outputs.
        scores: n float in 0…1; `segments_of` rounds to 4 decimals.
        agreement: n float in 0…1, of test-time augmentation; None without.
        kept: n bool, False = not to be published after all; None = all of them.
    """

    labels: Tensor
    scores: Tensor
    agreement: Tensor | None = None
    kept: Tensor | None = None


@dataclass(frozen=True, slots=True)
class LabelMap:
    """A picture cut into regions that do not overlap: semantic and panoptic.

    Attributes:
        labels: H×W uint8 or int16, 0 = nothing, else 1 + index into `found`. A view of a W×H
            contiguous tensor: pixels of a column are neighbours in memory.
        found: The regions, in the order that segments are to have.
    """

    labels: Tensor
    found: Found


@dataclass(frozen=True, slots=True)
class MaskStack:
    """Masks that may overlap, each kept inside a rectangle only: instances.

    Attributes:
        picture_hw: Of the picture, pixels.
        pixels: Flat uint8, 1 inside and 0 outside. The rectangles one after the other, each
            column by column with `strides` places a column, and at least one 0 after each.
        offsets: m int64 on the CPU, where each rectangle begins in `pixels`.
        boxes_xywh: m×4 int64 on the CPU, the rectangles in the picture, pixels.
        strides: m int64 on the CPU. The rectangle's height + 1 (the last place is 0); of one as
            high as the picture its height, so that runs go on in the next column.
        plane: n int64 on the CPU, which of the m masks each entry of `found` has.
        found: The n segments, in the order that they are to have.
    """

    picture_hw: tuple[int, int]
    pixels: Tensor
    offsets: Tensor
    boxes_xywh: Tensor
    strides: Tensor
    plane: Tensor
    found: Found
