"""What a recipe may say, and what it is told when it may not."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from schemas.config.training import SemanticTrainConfig

CONFIGS = Path(__file__).parents[3] / "jobs" / "configs"


@pytest.mark.parametrize("name", ["train-em", "train-camvid"])
def test_the_recipes_are_valid(name: str):
    config = SemanticTrainConfig.parse(tomllib.loads((CONFIGS / f"{name}.toml").read_text()))
    assert config.encoder_of("unet")
    assert config.augment.steps


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"crop": 100}, "crop: "),
        ({"best_by": "mean_io"}, "mean_iou, pixel_accuracy, mean_accuracy, foreground_iou"),
        ({"loss": "dice"}, "cross-entropy"),
        ({"category_weights": "median"}, "median-frequency"),
        ({"batch_size": 5, "workers": 2}, "batch_size must be a multiple of workers"),
        ({"net": {"depth": 4, "widths": [64, 32]}}, "net.depth is 4, got 2"),
        ({"shares": [0, 0]}, "shares must not all be zero"),
        ({"augment": {"steps": [{"step": "mosaic"}]}}, "mosaic wants objects, or other pictures"),
        ({"augment": {"steps": [{"step": "flop"}]}}, "did you mean 'flip'"),
    ],
)
def test_a_bad_value_is_named(given: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=r"\S") as caught:
        SemanticTrainConfig.parse(given)
    assert said in str(caught.value)


def test_encoders_belong_to_architectures():
    assert SemanticTrainConfig().encoder_of("segformer") == "b0"
    assert SemanticTrainConfig().encoder_of("unet") == "resnet34"
    odd = SemanticTrainConfig.parse({"net": {"encoder": "b9"}})
    with pytest.raises(ValueError, match=r"segformer takes b0, b1.*got 'b9'"):
        odd.encoder_of("segformer")
    with pytest.raises(ValueError, match="fcn takes resnet50, resnet101"):
        odd.encoder_of("fcn")
