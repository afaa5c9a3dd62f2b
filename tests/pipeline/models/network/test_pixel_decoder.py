"""The pixel decoders and decoders of Mask2Former and OneFormer as a GPU runs them, on a CPU."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch

import pipeline.models.mask2former
import pipeline.models.oneformer
from pipeline.models.network.deformable import exchange
from pipeline.models.network.pixel_decoder import cell_middles, exchange_pixels
from pipeline.models.network.weights import cast_weights
from schemas.config.model import ModelConfig

OPTIONS = ModelConfig(name="test", device="cpu")


def swin() -> Any:
    import transformers

    return transformers.SwinConfig(
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[1, 2, 4, 8],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def mask2former() -> Any:
    import transformers

    config = transformers.Mask2FormerConfig(
        backbone_config=swin(), num_queries=12, decoder_layers=4, encoder_layers=2
    )
    return transformers.Mask2FormerForUniversalSegmentation(config)


def oneformer() -> Any:
    import transformers

    config = transformers.OneFormerConfig(
        backbone_config=swin(), num_queries=12, decoder_layers=4, encoder_layers=2
    )
    return transformers.OneFormerForUniversalSegmentation(config)


def net(name: str, model: Any) -> Any:
    if name == "mask2former":
        return pipeline.models.mask2former.mask2former_net(model, device="cpu", options=OPTIONS)
    tokens = torch.arange(77.0)[None]
    return pipeline.models.oneformer.OneFormerNet(model.model, tokens, ("panoptic",), OPTIONS)


def forced(pixel_level: Any, transformer: Any) -> bool:
    assert exchange(pixel_level.decoder, padded=False, inverted=True) == 2
    exchange_pixels(pixel_level, transformer)
    return True


@pytest.mark.parametrize("name", ["mask2former", "oneformer"])
def test_the_answer_is_the_same_in_float32_and_near_in_bfloat16(name, monkeypatch):
    torch.manual_seed(0)
    model = {"mask2former": mask2former, "oneformer": oneformer}[name]()
    model.eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.02)
    pixels = torch.randn(2, 3, 96, 128)
    wanted = net(name, deepcopy(model))._forward(pixels)
    monkeypatch.setattr(f"pipeline.models.{name}.lean_pixels", forced)
    lean = net(name, model)
    for one, other in zip(wanted, lean._forward(pixels), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)
    cast_weights(model, torch.bfloat16)
    lean._forward.dtype = torch.bfloat16
    if name == "oneformer":
        lean._task_embeddings = [each.bfloat16() for each in lean._task_embeddings]
    for one, other in zip(wanted, lean._forward(pixels), strict=True):
        assert other.dtype == torch.float32
        assert float((other - one).norm() / one.norm()) < 0.2  # masks of a random net jump


def test_middles_of_cells_are_exact_where_bfloat16_is_not():
    middles = cell_middles([(2, 3), (1, 272)], torch.device("cpu"))
    assert middles.shape == (1, 278, 2, 2)
    assert middles[0, 0, 0].tolist() == pytest.approx([1 / 6, 1 / 4])
    assert middles[0, -1, 1].tolist() == pytest.approx([271.5 / 272, 0.5])
    assert len(middles[0, 6:, 0, 0].unique()) == 272
