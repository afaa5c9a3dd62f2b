"""A Grounding DINO prepared for a GPU, on a CPU: what it answers, and in which precision."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.models.network.deformable import exchange
from pipeline.models.text.grounding import exchange_geometry, lean_grounding
from schemas.config.model import ModelConfig

IDS = torch.tensor([[101, 2000, 2001, 1012, 2002, 1012, 102]])


def detector(kind: str) -> Any:
    import transformers

    swin = transformers.SwinConfig(
        embed_dim=16,
        depths=[1] * 4,
        num_heads=[1, 2, 4, 8],
        window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )
    text = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        backbone_config=swin,
        text_config=text,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_queries=20,
    )
    model: Any = getattr(transformers, f"{kind}ForObjectDetection")(config)
    model.eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


def asked(model: Any, pixels: torch.Tensor) -> Any:
    with torch.inference_mode():
        return model(pixel_values=pixels, input_ids=IDS.expand(len(pixels), -1))


@pytest.mark.parametrize("kind", ["GroundingDino", "MMGroundingDino"])
def test_its_geometry_is_that_of_the_library(kind):
    model, pixels = detector(kind), torch.randn(2, 3, 96, 128)
    wanted = asked(model, pixels)
    ours = deepcopy(model)
    assert exchange(ours, padded=False, inverted=False) == 3
    exchange_geometry(ours, torch.float32)
    found = asked(ours, pixels)
    torch.testing.assert_close(found.pred_boxes, wanted.pred_boxes, rtol=1e-4, atol=1e-5)
    scores = found.logits[..., :7].sigmoid(), wanted.logits[..., :7].sigmoid()
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-5)


def test_boxes_stay_float32_in_bfloat16():
    model = detector("GroundingDino")
    exchange(model, padded=False, inverted=False)
    exchange_geometry(model, torch.bfloat16)
    assert next(model.model.text_backbone.parameters()).dtype == torch.float32
    encoder = model.model.text_backbone

    def cast(*given: Any, **options: Any) -> Any:
        return SimpleNamespace(
            last_hidden_state=encoder_forward(*given, **options).last_hidden_state.bfloat16()
        )

    encoder_forward, encoder.forward = encoder.forward, cast
    answer = asked(model, torch.randn(1, 3, 96, 128).bfloat16())
    assert answer.pred_boxes.dtype == torch.float32
    assert len(answer.pred_boxes.unique()) > 60  # of 80 numbers: bfloat16 would repeat some


def test_on_a_cpu_nothing_is_changed():
    model = detector("GroundingDino")
    kinds = [type(each) for each in model.modules()]
    assert lean_grounding(model, ModelConfig(name="test", dtype="bfloat16")) is None
    assert [type(each) for each in model.modules()] == kinds
