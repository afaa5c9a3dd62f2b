# pyright: reportMissingImports=false, reportOperatorIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportOptionalMemberAccess=false
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false
# Triton has its own types inside kernels, and its own parser: no ternaries, no keyword magic.
"""Triton's non-maximum suppression of many groups of boxes at once, one program a group.

torchvision's kernel takes one list of boxes: a batch of pictures and levels is a loop of calls,
each of which the host waits for, and the end of each runs on a single block of the GPU.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_jit: Any = triton.jit


def _suppress(boxes, alive, threshold, count, size: tl.constexpr):
    """One group, the best box first; see `suppress_boxes`."""
    group = tl.program_id(0).to(tl.int64)
    corners = boxes + group * count * 4
    at = tl.arange(0, size)
    real = at < count
    left = tl.load(corners + at * 4, mask=real, other=0.0)
    top = tl.load(corners + at * 4 + 1, mask=real, other=0.0)
    right = tl.load(corners + at * 4 + 2, mask=real, other=0.0)
    bottom = tl.load(corners + at * 4 + 3, mask=real, other=0.0)
    area = (right - left) * (bottom - top)
    place = alive + group * count + at
    stays = tl.load(place, mask=real, other=0).to(tl.int32)
    for index in range(count):
        if tl.sum(tl.where(at == index, stays, 0), axis=0) > 0:
            own = corners + index * 4
            own_left = tl.load(own)
            own_top = tl.load(own + 1)
            own_right = tl.load(own + 2)
            own_bottom = tl.load(own + 3)
            wide = tl.minimum(right, own_right) - tl.maximum(left, own_left)
            tall = tl.minimum(bottom, own_bottom) - tl.maximum(top, own_top)
            shared = tl.maximum(wide, 0.0) * tl.maximum(tall, 0.0)
            own_area = (own_right - own_left) * (own_bottom - own_top)
            close = shared > threshold * (area + own_area - shared)
            stays = tl.where(close & (at > index), 0, stays)
    tl.store(place, stays.to(alive.dtype.element_ty), mask=real)


suppress_group = _jit(_suppress, do_not_specialize=["count"])


def suppress_boxes(boxes: Tensor, present: Tensor, *, threshold: float) -> Tensor:
    """Runs the kernel; see `network.regions.survivors` for what it computes.

    Args:
        boxes: G×n×4 float32 left, top, right, bottom; the best of each group first.
        present: G×n bool, False for what is no box.
        threshold: Of intersection over union.

    Returns:
        G×n bool.
    """
    groups, count = present.shape
    alive = present.to(torch.int8, copy=True).contiguous()
    with torch.cuda.device_of(boxes):
        suppress_group[(groups,)](
            *(boxes.contiguous(), alive, threshold, count),
            size=triton.next_power_of_2(count),
            num_warps=8,
        )
    return alive.bool()
