"""SAM's small logits as segments of the picture, numbered by their mask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from torch import Tensor
from torch.nn import functional

from schemas.records import Segment

from .maps import Found, MaskStack
from .paths import Path, path_for
from .rectangles import lay_out
from .runs import segments_of
from .sam_judge import Enlarging, judge, paint
from .transfer import fetch


def numbered_segments(
    small: Tensor,
    enlarging: Enlarging,
    *,
    threshold: float,
    boxes: Tensor | None = None,
    picture_hw: tuple[int, int] | None = None,
    corner_xy: tuple[int, int] = (0, 0),
    path: Path | None = None,
) -> Iterator[tuple[int, Segment]]:
    """Enlarges masks and writes them as segments.

    Args:
        small: M×h×w logits.
        enlarging: To the pixels of the picture, or of a crop of it.
        threshold: Logits above are inside.
        boxes: M×4 of `judge`, where they are known.
        picture_hw: Of the whole picture, where `enlarging` leads to a crop.
        corner_xy: Where the crop lies in it.
        path: See `paths`.

    Yields:
        Place in `small` and its segment, of category 1 and score 1, for each mask that has a pixel.
    """
    crop_hw = enlarging.frame.picture_hw
    whole_hw = picture_hw or crop_hw
    count = len(small)
    if not count:
        return
    if path_for(small.device, path) == "kernels":
        step = count
        if boxes is None:
            _, boxes = judge(small, enlarging, threshold=threshold, offset=0.0, path="kernels")
        stacks = [_in_boxes(small, enlarging, threshold, boxes, whole_hw, corner_xy)]
    else:
        step = enlarging.chunk()
        where = (*corner_xy, crop_hw[1], crop_hw[0])
        stacks = [
            stack_of(paint(part, enlarging, threshold=threshold), whole_hw, where)
            for part in small.split(step)
        ]
    numbers = range(1, step + 1)  # category ids that say which mask of its stack a segment is
    for number, segments in enumerate(segments_of(stacks, category_ids=numbers)):
        for one in segments:
            yield number * step + one.category_id - 1, replace(one, category_id=1)


def stack_of(
    masks: Tensor, picture_hw: tuple[int, int], crop_xywh: tuple[int, int, int, int]
) -> MaskStack:
    """Masks of one crop, labelled 0…M−1 in their order, without scores.

    Args:
        masks: M×w×h uint8, columns first, of the crop.
        picture_hw: Of the whole picture, pixels.
        crop_xywh: Where the crop lies in it.
    """
    count = len(masks)
    _, _, width, height = crop_xywh
    if height == picture_hw[0]:  # a run may go on in the next column: one 0 after the last
        stride, place = height, width * height + 1
        pixels = functional.pad(masks.flatten(1), (0, 1))
    else:  # one 0 after each column
        stride, place = height + 1, width * (height + 1)
        pixels = functional.pad(masks, (0, 1))
    order = np.arange(count)
    return MaskStack(
        picture_hw=picture_hw,
        pixels=pixels.flatten(),
        offsets=order * place,
        boxes_xywh=np.tile(np.array(crop_xywh, np.int64), (count, 1)),
        strides=np.full(count, stride, np.int64),
        planes=order,
        found=Found(labels=order, scores=np.ones(count)),
    )


def _in_boxes(
    small: Tensor,
    enlarging: Enlarging,
    threshold: float,
    boxes: Tensor,
    picture_hw: tuple[int, int],
    corner_xy: tuple[int, int],
) -> MaskStack:
    """The same stack, each mask painted inside its own box only."""
    from .launch_sam import paint_small

    ends = fetch(boxes)
    own = np.concatenate((ends[:, :2], ends[:, 2:] + 1 - ends[:, :2]), axis=1)
    placed = lay_out(own + np.array([*corner_xy, 0, 0]), picture_hw[0])
    pixels = paint_small(
        small,
        enlarging.frame,
        replace(placed, boxes_xywh=own),
        two_steps=enlarging.two_steps,
        threshold=threshold,
    )
    order = np.arange(len(small))
    return MaskStack(
        picture_hw=picture_hw,
        pixels=pixels,
        offsets=placed.offsets,
        boxes_xywh=placed.boxes_xywh,
        strides=placed.strides,
        planes=order,
        found=Found(labels=order, scores=np.ones(len(small))),
    )
