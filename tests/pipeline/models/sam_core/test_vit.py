"""SAM's encoder written for one attention kernel gives what the implementations' own give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder
from transformers.models.sam_hq.configuration_sam_hq import SamHQVisionConfig
from transformers.models.sam_hq.modeling_sam_hq import SamHQVisionEncoder

from pipeline.models.sam_core.vit import VitEncoder, package_vit, transformers_vit

COMMON: dict[str, Any] = {"num_hidden_layers": 3, "num_attention_heads": 4, "mlp_dim": 48}
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "image_size": 80,
    "patch_size": 8,
    "window_size": 7,
    "global_attn_indexes": [1],
    "output_channels": 16,
}


def drawn(encoder: Any) -> Any:
    """Positions begin as zeros, which would hide an error in them."""
    torch.manual_seed(0)
    for parameter in encoder.parameters():
        parameter.data.normal_(0, 0.2)
    return encoder.eval().requires_grad_(False)


def package(*, relative: bool = True) -> Any:
    return drawn(
        ImageEncoderViT(
            img_size=80, patch_size=8, embed_dim=32, depth=3, num_heads=4, out_chans=16,
            use_rel_pos=relative, window_size=7, global_attn_indexes=(1,),
        )
    )  # fmt: skip


@pytest.mark.parametrize("relative", [True, False])
def test_the_package_s(relative: bool) -> None:
    encoder = package(relative=relative)
    pixels = torch.randn(2, 3, 80, 80)
    found, between = VitEncoder(package_vit(encoder))(pixels)
    torch.testing.assert_close(found, encoder(pixels), rtol=1e-4, atol=1e-5)
    assert [each.shape for each in between] == [(2, 10, 10, 32)]


def test_tables_of_another_size_are_stretched_as_the_package_does_it() -> None:
    encoder = package()
    for block in encoder.blocks:
        for name in ("rel_pos_h", "rel_pos_w"):
            setattr(block.attn, name, torch.nn.Parameter(torch.randn(9, 8)))
    pixels = torch.randn(1, 3, 80, 80)
    found, _ = VitEncoder(package_vit(encoder))(pixels)
    torch.testing.assert_close(found, encoder(pixels), rtol=1e-4, atol=1e-5)


def test_transformers_sam() -> None:
    encoder = drawn(SamVisionEncoder(SamVisionConfig(**COMMON, **SHAPE)))
    pixels = torch.randn(2, 3, 80, 80)
    found, _ = VitEncoder(transformers_vit(encoder))(pixels)
    expected = encoder(pixels).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_transformers_sam_hq_and_what_lies_between() -> None:
    encoder = drawn(SamHQVisionEncoder(SamHQVisionConfig(**COMMON, **SHAPE)))
    pixels = torch.randn(1, 3, 80, 80)
    found, between = VitEncoder(transformers_vit(encoder))(pixels)
    expected = encoder(pixels)
    torch.testing.assert_close(found, expected.last_hidden_state, rtol=1e-4, atol=1e-5)
    (only,) = expected.intermediate_embeddings
    torch.testing.assert_close(between[0], only, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_as_close_as_the_implementation_s_own() -> None:
    encoder = package()
    pixels = torch.randn(1, 3, 80, 80)
    exact = encoder(pixels)
    encoder = encoder.bfloat16()
    mine, _ = VitEncoder(package_vit(encoder))(pixels.bfloat16())
    theirs = encoder(pixels.bfloat16())
    assert (mine - exact).norm() <= 1.2 * (theirs - exact).norm()
