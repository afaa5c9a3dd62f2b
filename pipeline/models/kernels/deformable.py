# pyright: reportCallIssue=false
# pyright: reportMissingImports=false, reportOperatorIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportOptionalMemberAccess=false
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false
# Triton has its own types inside kernels, and its own parser: no ternaries, no keyword magic.
"""Triton's multi-scale deformable attention: one launch gathers every level, head and point.

The published forms (Deformable DETR, Zhu et al. 2021, equation 3; transformers' `grid_sample`)
write the values of all sampled points to memory, level by level, before they are weighted. Here a
program keeps the sum of some queries of one head in registers: it computes where each point lies,
gathers its four corners in the type of the values, weights and adds in float32. Softmax over the
points and the conversion of offsets to positions happen on the way, so positions are never rounded
to the precision of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

LEVELS = 5
"""Levels at most."""

QUERIES = 32
"""Of a program. 32 with four warps was the fastest of nine on an H200 (docs/performance.md)."""

WARPS = 4

_SIDES = [f"{side}{level}" for level in range(LEVELS) for side in ("height", "width")]
_jit: Any = triton.jit


@_jit
def corner(values, base, y, x, height, width, weight, channel, row: tl.constexpr):
    """The values of queries×channels at cells (y, x), weighted; nothing outside the level."""
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    place = (base + y * width + x) * row
    found = tl.load(values + place[:, None] + channel[None, :], mask=inside[:, None], other=0.0)
    return found.to(tl.float32) * weight[:, None]


def _attend(
    values,
    points,
    references,
    answer,
    queries,
    cells,
    by_picture,
    by_query,
    by_level,
    height0,
    width0,
    height1,
    width1,
    height2,
    width2,
    height3,
    width3,
    height4,
    width4,
    heads: tl.constexpr,
    channels: tl.constexpr,
    levels: tl.constexpr,
    each: tl.constexpr,
    padded: tl.constexpr,
    coordinates: tl.constexpr,
    size: tl.constexpr,
):
    """Some queries of one head of one picture; see `sample_levels`."""
    picture = (tl.program_id(1) // heads).to(tl.int64)
    head = tl.program_id(1) % heads
    query = tl.program_id(0) * size + tl.arange(0, size)
    real = query < queries
    channel = tl.arange(0, channels)
    row: tl.constexpr = heads * channels
    total: tl.constexpr = levels * each
    own = values + picture * cells * row + head * channels
    # A query's row: heads × levels × points × (x, y), then heads × levels × points weights.
    said = points + (picture * queries + query) * (3 * heads * total)
    offsets = said + head * (2 * total)
    scores = said + 2 * heads * total + head * total
    known = references + picture * by_picture + query * by_query

    column = tl.arange(0, padded)
    some = real[:, None] & (column < total)[None, :]
    score = tl.load(scores[:, None] + column[None, :], mask=some, other=float("-inf"))
    score = tl.where((column < total)[None, :], score.to(tl.float32), float("-inf"))
    score = tl.where(real[:, None], score, 0.0)
    top = tl.max(score, axis=1)
    share = 1.0 / tl.sum(tl.exp(score - top[:, None]), axis=1)

    base = 0
    found = tl.zeros([size, channels], tl.float32)
    for level in tl.static_range(levels):
        height, width = height0, width0
        if level == 1:
            height, width = height1, width1
        if level == 2:
            height, width = height2, width2
        if level == 3:
            height, width = height3, width3
        if level == 4:
            height, width = height4, width4
        here = known + level * by_level
        middle_x = tl.load(here, mask=real, other=0.0).to(tl.float32) * width - 0.5
        middle_y = tl.load(here + 1, mask=real, other=0.0).to(tl.float32) * height - 0.5
        if coordinates == 4:  # offsets are shares of half a box
            step_x = tl.load(here + 2, mask=real, other=0.0).to(tl.float32) * width * (0.5 / each)
            step_y = tl.load(here + 3, mask=real, other=0.0).to(tl.float32) * height * (0.5 / each)
        for point in tl.static_range(each):
            number = level * each + point
            score_of = tl.load(scores + number, mask=real, other=0.0).to(tl.float32)
            weight = tl.exp(score_of - top) * share
            x = tl.load(offsets + 2 * number, mask=real, other=0.0).to(tl.float32)
            y = tl.load(offsets + 2 * number + 1, mask=real, other=0.0).to(tl.float32)
            if coordinates == 4:
                x, y = x * step_x, y * step_y
            # Beyond the level there is nothing; how far beyond must not leave an integer's range.
            x = tl.minimum(tl.maximum(middle_x + x, -2.0), width + 1.0)
            y = tl.minimum(tl.maximum(middle_y + y, -2.0), height + 1.0)
            left, above = tl.floor(x), tl.floor(y)
            right_share, below_share = x - left, y - above
            at_x, at_y = left.to(tl.int32), above.to(tl.int32)
            upper, lower = (1.0 - below_share) * weight, below_share * weight
            left_share = 1.0 - right_share
            found += corner(own, base, at_y, at_x, height, width, upper * left_share, channel, row)
            found += corner(
                own, base, at_y, at_x + 1, height, width, upper * right_share, channel, row
            )
            found += corner(
                own, base, at_y + 1, at_x, height, width, lower * left_share, channel, row
            )
            found += corner(
                own, base, at_y + 1, at_x + 1, height, width, lower * right_share, channel, row
            )
        base += height * width
    place = answer + (picture * queries + query) * row + head * channels
    tl.store(
        place[:, None] + channel[None, :], found.to(answer.dtype.element_ty), mask=real[:, None]
    )


attend = _jit(
    _attend,
    do_not_specialize=["queries", "cells", "by_picture", "by_query", "by_level", *_SIDES],
)


def attend_levels(
    values: Tensor,
    points: Tensor,
    references: Tensor,
    shapes: Sequence[int],
    *,
    size: int = QUERIES,
    warps: int = WARPS,
) -> Tensor:
    """Runs the kernel; see `network.deformable.sample_levels` for what it computes.

    Args:
        values: B×S×heads×channels, contiguous; channels a power of two of at least 8.
        points: B×Q×(3·heads·levels·points), contiguous.
        references: B×Q×levels×(2 or 4) float32; any strides but the last, which is 1.
        shapes: height, width of each level.
        size: Queries of a program.
        warps: That work on them.

    Returns:
        B×Q×(heads·channels), of the type of the values.
    """
    batch, cells, heads, channels = values.shape
    queries, levels = points.shape[1], len(shapes) // 2
    each = points.shape[2] // (3 * heads * levels)
    answer = values.new_empty((batch, queries, heads * channels))
    sides = [*shapes, *[1] * (2 * (LEVELS - levels))]
    by_picture, by_query, by_level, _ = references.stride()
    with torch.cuda.device_of(values):
        attend[(triton.cdiv(queries, size), batch * heads)](
            *(values, points, references, answer, queries, cells),
            *(by_picture, by_query, by_level, *sides),
            heads=heads,
            channels=channels,
            levels=levels,
            each=each,
            padded=triton.next_power_of_2(levels * each),
            coordinates=references.shape[-1],
            size=size,
            num_warps=warps,
        )
    return answer
