"""Attention in the windows of transformers' Swin, exchanged."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch

from pipeline.models.network.windows import (
    attention_in_windows,
    exchange_windows,
    window_attention,
)


def test_a_backbone_gives_the_same_features_padded_and_shifted():
    import transformers

    torch.manual_seed(0)
    config = transformers.SwinConfig(
        embed_dim=16,
        depths=[2, 2, 1, 1],
        num_heads=[2, 2, 4, 4],
        window_size=4,
        out_features=["stage1", "stage2", "stage4"],
    )
    model: Any = transformers.AutoBackbone.from_config(config).eval()
    with torch.inference_mode():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)  # biases, too
        pixels = torch.randn(2, 3, 100, 72)  # 25×18 cells: neither is a multiple of the window
        ours = deepcopy(model)
        assert exchange_windows(ours) == 6
        for wanted, found in zip(
            model(pixels).feature_maps, ours(pixels).feature_maps, strict=True
        ):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_other_networks_are_left_alone():
    assert exchange_windows(torch.nn.Sequential(torch.nn.Linear(2, 2))) == 0


def test_it_is_one_operator_to_the_compiler():
    parts = [torch.randn(8, 9, 8) for _ in range(3)]
    biases = torch.randn(2, 9, 9)
    given = (*parts, biases, 3, 1, 6, 6)
    torch.library.opcheck(window_attention, given)
    compiled = torch.compile(
        lambda *some: window_attention(*some, 3, 1, 6, 6), fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(compiled(*parts, biases), attention_in_windows(*given))
