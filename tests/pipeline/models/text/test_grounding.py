"""A Grounding DINO prepared for a GPU, on a CPU: what it answers, and in which precision."""

from __future__ import annotations

from copy import deepcopy
from importlib import import_module
from typing import Any

import pytest
import torch

from pipeline.models.network.deformable import exchange
from pipeline.models.text.grounding import (
    LeanGrounding,
    exchange_geometry,
    read_text,
    unlike_published,
)
from pipeline.models.text.phrases import Chunk

library: Any = import_module("transformers")

CHUNK = Chunk((0, 1), (101, 2000, 2001, 1012, 2002, 1012, 102), ((1, 3), (4, 5)))
IDS = torch.tensor([CHUNK.tokens])


def detector(kind: str) -> Any:
    swin = library.SwinConfig(
        embed_dim=16,
        depths=[1] * 4,
        num_heads=[1, 2, 4, 8],
        window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )
    text = library.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    torch.manual_seed(0)
    config = getattr(library, f"{kind}Config")(
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
    model: Any = getattr(library, f"{kind}ForObjectDetection")(config)
    model.eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


def asked(model: Any, pixels: torch.Tensor) -> Any:
    with torch.inference_mode():
        return model(pixel_values=pixels, input_ids=IDS.expand(len(pixels), -1))


def lean(model: Any, dtype: torch.dtype) -> LeanGrounding:
    """As on a GPU, but for the kernel."""
    assert exchange(model, padded=False, inverted=False) == 3
    found = LeanGrounding(model, [CHUNK])
    exchange_geometry(model, dtype)
    return found


@pytest.mark.parametrize("kind", ["GroundingDino", "MMGroundingDino"])
def test_it_answers_as_the_library(kind):
    model, pixels = detector(kind), torch.randn(2, 3, 96, 128)
    wanted = asked(model, pixels)
    with torch.inference_mode():
        logits, boxes = lean(deepcopy(model), torch.float32)(pixels)
    torch.testing.assert_close(boxes, wanted.pred_boxes, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        logits.sigmoid(), wanted.logits[..., :7].sigmoid(), rtol=1e-4, atol=1e-5
    )


def test_several_texts_are_answered_each_by_itself():
    model, pixels = detector("GroundingDino"), torch.randn(1, 3, 96, 128)
    exchange(model, padded=False, inverted=False)
    other = Chunk((1,), (101, 2002, 1012, 102), ((1, 2),))
    with torch.inference_mode():
        both = LeanGrounding(model, [CHUNK, other])(pixels)
        for chunk, found in ((CHUNK, both[:2]), (other, both[2:])):
            alone = LeanGrounding(model, [chunk])(pixels)
            for one, wanted in zip(found, alone, strict=True):
                torch.testing.assert_close(one, wanted)


def test_the_text_is_read_as_the_library_lays_it_out():
    model = detector("GroundingDino")
    given: list[Any] = []
    model.model.text_backbone.register_forward_pre_hook(lambda _module, args: given.append(args))
    asked(model, torch.randn(1, 3, 96, 128))
    read_text(model.model, CHUNK)
    for theirs, ours in zip(*given, strict=True):
        assert torch.equal(theirs, ours)


def test_boxes_stay_float32_in_bfloat16():
    model = detector("GroundingDino")
    look = lean(model, torch.bfloat16)
    assert next(model.model.text_backbone.parameters()).dtype == torch.float32
    assert next(model.model.encoder.parameters()).dtype == torch.bfloat16
    with torch.inference_mode():
        _, boxes = look(torch.randn(1, 3, 96, 128).bfloat16())
    assert boxes.dtype == torch.float32
    assert len(boxes.unique()) > 60  # of 80 numbers: bfloat16 would repeat some


def test_architectures_that_nobody_published_are_told_before_the_first_picture():
    assert unlike_published({}) == ""
    assert unlike_published({"two_stage": True, "num_feature_levels": 4}) == ""
    assert "two_stage" in unlike_published({"two_stage": False})
    assert "one feature level" in unlike_published({"num_feature_levels": 1})
