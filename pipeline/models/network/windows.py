"""Attention inside windows of transformers' Swin, by one kernel on a GPU."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def attention_in_windows(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    biases: Tensor,
    side: int,
    shift: int,
    height: int,
    width: int,
) -> Tensor:
    """The plain formula (Liu et al. 2021, Swin Transformer, equation 4, and section 3.2).

    Args:
        queries: W×tokens×(heads·channels), windows of a picture row by row.
        keys: Likewise.
        values: Likewise.
        biases: heads×tokens×tokens.
        side: Of a window; tokens are its square.
        shift: Cells by which the picture was rolled, 0 = not.
        height: Cells of a picture, whole windows.
        width: Likewise.

    Returns:
        W×tokens×(heads·channels), of the type of the queries.
    """
    heads = len(biases)
    split = [each.unflatten(2, (heads, -1)).transpose(1, 2) for each in (queries, keys, values)]
    mask = biases[None].to(queries.dtype)
    if shift:
        rows, columns = (
            torch.arange(length, device=queries.device).view(-1, side) for length in (height, width)
        )
        down, right = (
            (cell >= length - side).long() + (cell >= length - shift).long()
            for cell, length in ((rows, height), (columns, width))
        )
        parts = (3 * down[:, None, :, None] + right[None, :, None, :]).flatten(2).flatten(0, 1)
        apart = parts[:, :, None] != parts[:, None, :]
        closed = torch.zeros_like(apart, dtype=queries.dtype).masked_fill(apart, -100.0)
        mask = mask + closed.repeat(len(queries) // len(closed), 1, 1)[:, None]
    found = functional.scaled_dot_product_attention(*split, attn_mask=mask)
    return found.transpose(1, 2).flatten(2)


@torch.library.custom_op("maskmill::window_attention", mutates_args=())
def window_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    biases: Tensor,
    side: int,
    shift: int,
    height: int,
    width: int,
) -> Tensor:
    """`attention_in_windows` as one operator: the kernel on a GPU, the plain formula elsewhere."""
    given = [each.contiguous() for each in (queries, keys, values, biases)]
    if not queries.is_cuda:
        q, k, v, bias = given
        return attention_in_windows(q, k, v, bias, side, shift, height, width).contiguous()
    from pipeline.models.kernels.windows import attend_windows

    return attend_windows(*given, side=side, shift=shift, hw=(height, width))


@window_attention.register_fake
def _(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    biases: Tensor,
    side: int,
    shift: int,
    height: int,
    width: int,
) -> Tensor:
    return torch.empty_like(queries, memory_format=torch.contiguous_format)


class WindowAttention(nn.Module):
    """Stands where a `SwinAttention` was, with the same weights.

    Args:
        inner: The module that it replaces.
        side: Of a window.
        shift: Of its layer.
    """

    biases: Tensor

    def __init__(self, inner: Any, *, side: int, shift: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = inner.q_proj, inner.k_proj, inner.v_proj
        self.o_proj = inner.o_proj
        self.side = side
        self.shift = shift
        biases = inner.relative_position_bias()[0].detach().contiguous()
        self.register_buffer("biases", biases, persistent=False)

    def forward(
        self, hidden_states: Tensor, attention_mask: tuple[int, int], **_unused: Any
    ) -> tuple[Tensor, None]:
        """W×tokens×C; in place of a mask it gets the cells of a picture, height and width."""
        parts = [each(hidden_states) for each in (self.q_proj, self.k_proj, self.v_proj)]
        found = window_attention(*parts, self.biases, self.side, self.shift, *attention_mask)
        return self.o_proj(found), None


def exchange_windows(model: nn.Module) -> int:
    """Exchanges the attentions of every Swin backbone in a network; returns how many.

    Those of transformers' `SwinBackbone` alone: there windows never change with the input's size.
    """
    count = 0
    for backbone in model.modules():
        if type(backbone).__name__ != "SwinBackbone":
            continue
        for layer in backbone.modules():
            if type(layer).__name__ == "SwinLayer":
                _exchange(layer)
                count += 1
    return count


def _exchange(layer: Any) -> None:
    side, shift = layer.window_size, layer.shift_size
    layer.attention = WindowAttention(layer.attention, side=side, shift=shift)
    layer.get_attn_mask = partial(_extent)


def _extent(height: int, width: int, **_unused: Any) -> tuple[int, int]:
    return height, width
