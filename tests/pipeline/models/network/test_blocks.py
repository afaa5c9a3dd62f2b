"""Layers of a network, found and compiled one by one."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import nn

from pipeline.models.network.blocks import compile_blocks, repeated_blocks, without_drop_path

library: Any = import_module("transformers")


def segformer() -> Any:
    torch.manual_seed(0)
    config = library.SegformerConfig(
        num_encoder_blocks=2,
        hidden_sizes=[8, 16],
        depths=[1, 2],
        num_attention_heads=[1, 2],
        sr_ratios=[8, 4],
        patch_sizes=[7, 3],
        strides=[4, 2],
        mlp_ratios=[4, 4],
        decoder_hidden_size=16,
        drop_path_rate=0.1,
    )
    model: Any = library.SegformerForSemanticSegmentation(config)
    return model.eval().requires_grad_(False)


def test_the_layers_of_a_segformer_and_its_head_are_found():
    names = [type(block).__name__ for block in repeated_blocks(segformer())]
    assert names == ["SegformerLayer"] * 3 + ["SegformerDecodeHead"]


def test_a_network_without_known_layers_is_left_alone():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert compile_blocks(model) == 0
    assert "forward" not in vars(model[0])


def test_compiled_layers_give_what_they_gave(monkeypatch):
    """Without graph breaks, although transformers hung hooks into them."""
    model, pixels = segformer(), torch.randn(1, 3, 64, 64)
    build = torch.compile

    def quick(function: Any, **options: Any) -> Any:
        return build(function, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", quick)
    with torch.inference_mode():
        wanted = model(pixels).logits
        without_drop_path(model)
        assert not any(type(each).__name__.endswith("DropPath") for each in model.modules())
        assert compile_blocks(model) == 4
        torch.testing.assert_close(model(pixels).logits, wanted, rtol=1e-4, atol=1e-5)
