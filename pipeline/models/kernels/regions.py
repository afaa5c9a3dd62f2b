# pyright: reportMissingImports=false, reportOperatorIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportOptionalMemberAccess=false
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false
# Triton has its own types inside kernels, and its own parser: no ternaries, no keyword magic.
"""Triton's RoIAlign over the levels of a feature pyramid, as the network left them.

torchvision's kernel wants float32 channel by channel: each call copies all levels into that order,
0.6 GB a batch, then waits for the GPU to sort boxes by level. Here a program reads all channels of
a cell at once, in the network's precision, and sums in float32 (He et al. 2017, section 3; the
level of a box after Lin et al. 2017, Feature Pyramid Networks, equation 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_jit: Any = triton.jit


@_jit
def held(at, edge):
    """A place held inside the cells as torchvision holds it: low and high cell, share of the high.

    The share is below 0 for a place so far outside that it counts as 0.
    """
    inside = (at >= -1.0) & (at <= edge)
    at = tl.maximum(at, 0.0)
    low = tl.minimum(at.to(tl.int32), edge - 1)
    high = tl.minimum(low + 1, edge - 1)
    share = tl.where(low >= edge - 1, 0.0, at - low)
    return low, high, tl.where(inside, share, -1.0)


def _cut_row(
    cells,
    boxes,
    pictures,
    answer,
    height,
    width,
    scale,
    level: tl.constexpr,
    last: tl.constexpr,
    channels: tl.constexpr,
    side: tl.constexpr,
):
    """A row of bins of one box, if the box is of this level; see `cut_regions`."""
    box = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1)
    left = tl.load(boxes + box * 4)
    top = tl.load(boxes + box * 4 + 1)
    right = tl.load(boxes + box * 4 + 2)
    bottom = tl.load(boxes + box * 4 + 3)
    extent = tl.sqrt(tl.maximum((right - left) * (bottom - top), 1e-12))
    own = tl.floor(4.0 + tl.log2(extent / 224.0) + 1e-6) - 2.0
    own = tl.minimum(tl.maximum(own, 0.0), last)
    if own != level:
        return
    wide = tl.maximum((right - left) * scale, 1.0) / side
    tall = tl.maximum((bottom - top) * scale, 1.0) / side
    channel = tl.arange(0, channels)
    picture = tl.load(pictures + box).to(tl.int64)
    base = cells + picture * height * width * channels + channel
    for column in range(side):
        found = tl.zeros([channels], tl.float32)
        for sample in tl.static_range(4):
            y = top * scale + tall * (row + (sample // 2 + 0.5) / 2)
            x = left * scale + wide * (column + (sample % 2 + 0.5) / 2)
            upper, lower, down = held(y, height)
            near, far, along = held(x, width)
            if (down >= 0.0) & (along >= 0.0):
                first = tl.load(base + (upper * width + near) * channels).to(tl.float32)
                second = tl.load(base + (upper * width + far) * channels).to(tl.float32)
                third = tl.load(base + (lower * width + near) * channels).to(tl.float32)
                fourth = tl.load(base + (lower * width + far) * channels).to(tl.float32)
                found += (1.0 - down) * ((1.0 - along) * first + along * second)
                found += down * ((1.0 - along) * third + along * fourth)
        place = ((box * side + row) * side + column) * channels + channel
        tl.store(answer + place, (found / 4.0).to(answer.dtype.element_ty))


cut_row = _jit(_cut_row, do_not_specialize=["height", "width"])


def cut_regions(
    levels: Sequence[Tensor], boxes: Tensor, pictures: Tensor, *, side: int, dtype: torch.dtype
) -> Tensor:
    """Runs the kernel; see `network.regions.cut_from_levels` for what it computes.

    Args:
        levels: B×C×h×w each, a quarter of the input's size and halves of it, in channels-last
            order; C is a power of two.
        boxes: N×4 float32 left, top, right, bottom, pixels of the input.
        pictures: N, of the batch.
        side: Bins of a box, down and across.
        dtype: Of the answer.

    Returns:
        N×C×side×side, in channels-last order.
    """
    channels = levels[0].shape[1]
    boxes, pictures = boxes.contiguous(), pictures.int()
    answer = boxes.new_empty((len(boxes), side, side, channels), dtype=dtype)
    if not len(boxes):
        return answer.permute(0, 3, 1, 2)
    with torch.cuda.device_of(boxes):
        for level, cells in enumerate(levels):
            flat = cells.permute(0, 2, 3, 1).contiguous()
            cut_row[(len(boxes), side)](
                *(flat, boxes, pictures, answer, flat.shape[1], flat.shape[2], 2.0 ** -(level + 2)),
                level=level,
                last=len(levels) - 1,
                channels=channels,
                side=side,
                num_warps=2 if channels >= 128 else 1,
            )
    return answer.permute(0, 3, 1, 2)
