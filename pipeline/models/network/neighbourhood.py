"""Neighbourhood attention in plain PyTorch, for DiNAT, the backbone of a published OneFormer.

Source: Hassani et al., "Neighborhood Attention Transformer", CVPR 2023, and Hassani and Shi,
"Dilated Neighborhood Attention Transformer", 2022. The authors' kernels are the package `natten`,
whose functions that transformers calls are gone since its version 0.20; and transformers 5.23 hands
them queries with rows, columns and heads in the wrong order. So its layers are given this forward.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


def neighbours(length: int, kernel_size: int, dilation: int, *, device: Any = None) -> Tensor:
    """The places along a side that each place attends to.

    Of the places at multiples of `dilation` from its own, the `kernel_size` nearest: as many on
    both sides where the picture goes on, more on one side at its rim.

    Args:
        length: Places of the side, at least `kernel_size` × `dilation`.
        kernel_size: Odd.
        dilation: Step.
        device: Of the result.

    Returns:
        `length` × `kernel_size` int64, ascending.
    """
    place = torch.arange(length, device=device)
    group, turn = place % dilation, place // dilation
    count = (length - group + dilation - 1) // dilation  # places of the group
    first = (turn - kernel_size // 2).clamp(min=0)
    first = torch.minimum(first, count - kernel_size)
    return group[:, None] + dilation * (first[:, None] + torch.arange(kernel_size, device=device))


def neighbourhood_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, kernel_size: int, dilation: int
) -> Tensor:
    """Each pixel's mean of its neighbours' values, weighted by softmax(query · key + bias).

    Args:
        query: B×heads×H×W×C, already scaled.
        key: Likewise.
        value: Likewise.
        bias: heads×(2k−1)×(2k−1), by the neighbour's place relative to the pixel's, in steps.
        kernel_size: k, of a side.
        dilation: Step between neighbours, pixels.

    Returns:
        B×heads×H×W×C.
    """
    height, width = query.shape[2:4]
    rows = neighbours(height, kernel_size, dilation, device=query.device)
    columns = neighbours(width, kernel_size, dilation, device=query.device)
    own_rows = torch.arange(height, device=query.device)[:, None]
    own_columns = torch.arange(width, device=query.device)[:, None]
    down = (rows - own_rows) // dilation + kernel_size - 1
    across = (columns - own_columns) // dilation + kernel_size - 1
    scores = []
    for i in range(kernel_size):
        some = key.index_select(2, rows[:, i])
        for j in range(kernel_size):
            product = (query * some.index_select(3, columns[:, j])).sum(-1)
            scores.append(product + bias[:, down[:, i]][:, :, across[:, j]])
    weights = torch.stack(scores, -1).softmax(-1)
    found = torch.zeros_like(query)
    for i in range(kernel_size):
        some = value.index_select(2, rows[:, i])
        for j in range(kernel_size):
            share = weights[..., i * kernel_size + j, None]
            found += share * some.index_select(3, columns[:, j])
    return found


def allow_dinat() -> None:
    """Lets transformers build DiNAT's layers where `natten` is not installed."""
    from transformers.models.dinat import modeling_dinat

    # The module's own name for a check of what is installed; natten is not needed here.
    module: Any = modeling_dinat
    module.requires_backends = lambda *_: None


def mend_dinat(model: nn.Module) -> None:
    """Gives all layers of neighbourhood attention in a network the forward of this file."""
    from transformers.models.dinat.modeling_dinat import NeighborhoodAttention

    for module in model.modules():
        if isinstance(module, NeighborhoodAttention):
            layer: Any = module
            layer.forward = partial(_forward, layer)


def _forward(layer: Any, hidden_states: Tensor, output_attentions: bool = False) -> tuple[Tensor]:
    """B×H×W×D in and out; names as in transformers."""
    heads = layer.num_attention_heads
    query, key, value = (
        project(hidden_states).unflatten(-1, (heads, -1)).permute(0, 3, 1, 2, 4)
        for project in (layer.query, layer.key, layer.value)
    )
    found = neighbourhood_attention(
        query / layer.attention_head_size**0.5,
        key,
        value,
        layer.rpb,
        layer.kernel_size,
        layer.dilation,
    )
    return (found.permute(0, 2, 3, 1, 4).flatten(-2),)
