"""Networks of every architecture give logits of the picture's size, and learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.training.learn.nets import new_net
from schemas.config.training import Architecture, SemanticTrainConfig


def config(**net: Any) -> SemanticTrainConfig:
    return SemanticTrainConfig.parse({"net": net})


@pytest.mark.parametrize(
    ("architecture", "net", "family"),
    [
        ("unet", {"encoder": "resnet18"}, "smp"),
        ("unet", {"encoder": "vgg11_bn", "depth": 4, "widths": [32, 32, 16, 16]}, "smp"),
        ("deeplabv3", {"encoder": "mobilenet_v3_large"}, "torchvision-semantic"),
        ("segformer", {"encoder": "b0"}, "semantic"),
    ],
)
def test_logits_have_the_pictures_size_and_every_weight_learns(
    architecture: Architecture, net: dict[str, Any], family: str
):
    model = new_net(architecture, config(**net), 5)
    assert model.family == family
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 64, 96), np.uint8))
    logits = model.logits()(model.net.train(), model.normalised(pixels))
    assert logits.shape == (2, 5, 64, 96)
    logits.square().mean().backward()
    assert all(p.grad is not None for p in model.net.parameters())


def test_normalising_is_that_of_labelling():
    model = new_net("segformer", config(), 2)
    pixels = torch.full((1, 3, 2, 2), 124, dtype=torch.uint8)
    found = model.normalised(pixels)[0, :, 0, 0]
    expected = (124 / 255 - np.array(model.mean)) / np.array(model.std)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_sizes_of_segformers_are_those_of_the_paper():
    sizes = {
        encoder: sum(
            p.numel() for p in new_net("segformer", config(encoder=encoder), 150).net.parameters()
        )
        for encoder in ("b0", "b1")
    }
    # Xie et al. 2021, table 1: 3.8 M and 13.7 M with ADE20K's 150 categories.
    assert sizes["b0"] == pytest.approx(3.8e6, rel=0.02)
    assert sizes["b1"] == pytest.approx(13.7e6, rel=0.02)


def test_an_unknown_encoder_is_named():
    with pytest.raises(ValueError, match="resnet19"):
        new_net("unet", config(encoder="resnet19"), 2)
