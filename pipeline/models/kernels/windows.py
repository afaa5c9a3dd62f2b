# pyright: reportMissingImports=false, reportOperatorIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportOptionalMemberAccess=false
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false
# Triton has its own types inside kernels, and its own parser: no ternaries, no keyword magic.
"""Triton's attention inside windows (Swin): no mask is ever written.

PyTorch's fused kernels take the relative biases and the mask of shifted windows as one tensor of
windows × heads × tokens², 0.8 GB for a batch of a Swin-L's first stage. Here a program adds the
biases of its head, and knows from a token's place which tokens it was not beside before the shift.
Online softmax as in FlashAttention (Dao et al. 2022).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 64
"""Tokens of a program, and of a step; a window of 7² fits in one, one of 12² takes three."""

_jit: Any = triton.jit


@_jit
def region(token, window, side, shift, height, width):
    """Which of nine parts a token lay in before the picture was rolled."""
    across = width // side
    within = window % ((height // side) * across)
    row = within // across * side + token // side
    column = within % across * side + token % side
    down = (row >= height - side).to(tl.int32) + (row >= height - shift).to(tl.int32)
    right = (column >= width - side).to(tl.int32) + (column >= width - shift).to(tl.int32)
    return down * 3 + right


def _attend_windows(
    queries,
    keys,
    values,
    biases,
    answer,
    scale,
    height,
    width,
    heads: tl.constexpr,
    channels: tl.constexpr,
    tokens: tl.constexpr,
    side: tl.constexpr,
    shift: tl.constexpr,
    size: tl.constexpr,
):
    """Some tokens of one head of one window; see `attend_windows`."""
    window = tl.program_id(0)
    head = tl.program_id(1)
    row: tl.constexpr = heads * channels
    base = window.to(tl.int64) * tokens * row + head * channels
    channel = tl.arange(0, channels)
    own = tl.program_id(2) * size + tl.arange(0, size)
    real = own < tokens
    place = base + own[:, None] * row + channel[None, :]
    query = tl.load(queries + place, mask=real[:, None], other=0.0)
    top = tl.full([size], float("-inf"), tl.float32)
    total = tl.zeros([size], tl.float32)
    found = tl.zeros([size, channels], tl.float32)
    for start in tl.static_range(0, tokens, size):
        other = start + tl.arange(0, size)
        there = other < tokens
        theirs = base + other[:, None] * row + channel[None, :]
        key = tl.load(keys + theirs, mask=there[:, None], other=0.0)
        value = tl.load(values + theirs, mask=there[:, None], other=0.0)
        both = real[:, None] & there[None, :]
        pair = head * tokens * tokens + own[:, None] * tokens + other[None, :]
        score = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        score += tl.load(biases + pair, mask=both, other=0.0).to(tl.float32)
        if shift > 0:
            mine = region(own, window, side, shift, height, width)
            others = region(other, window, side, shift, height, width)
            score = tl.where(mine[:, None] == others[None, :], score, score - 100.0)
        score = tl.where(there[None, :], score, float("-inf"))
        higher = tl.maximum(top, tl.max(score, axis=1))
        weight = tl.exp(score - higher[:, None])
        fade = tl.exp(top - higher)
        total = total * fade + tl.sum(weight, axis=1)
        found = found * fade[:, None] + tl.dot(
            weight.to(value.dtype), value, input_precision="ieee"
        )
        top = higher
    found = found / total[:, None]
    tl.store(answer + place, found.to(answer.dtype.element_ty), mask=real[:, None])


attend_some = _jit(_attend_windows, do_not_specialize=["height", "width"])


def attend_windows(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    biases: Tensor,
    *,
    side: int,
    shift: int,
    hw: tuple[int, int],
) -> Tensor:
    """Runs the kernel; see `network.windows.attention_in_windows` for what it computes.

    Args:
        queries: W×tokens×(heads·channels), contiguous, windows of a picture row by row.
        keys: Likewise.
        values: Likewise.
        biases: heads×tokens×tokens, contiguous.
        side: Of a window; tokens are its square.
        shift: Cells by which the picture was rolled, 0 = not.
        hw: Cells of a picture, whole windows.

    Returns:
        As the queries.
    """
    windows, tokens, row = queries.shape
    heads = len(biases)
    answer = torch.empty_like(queries)
    channels = row // heads
    with torch.cuda.device_of(queries):
        attend_some[(windows, heads, triton.cdiv(tokens, _BLOCK))](
            *(queries, keys, values, biases, answer, channels**-0.5, *hw),
            heads=heads,
            channels=channels,
            tokens=tokens,
            side=side,
            shift=shift,
            size=_BLOCK,
            num_warps=4,
        )
    return answer
