"""How pictures go into a network of segmentation-models-pytorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pipeline.models.checkpoints.smp import read_smp, smp_input_rule
from pipeline.models.network.fit import Fitter
from schemas.records import ImageRecord, Sample

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def rule(folder: Path, *steps: dict[str, Any], settings: dict[str, Any] | None = None, **config):
    whole = {"_model_class": "Unet", "encoder_name": "resnet18", "classes": 3, **config}
    if steps:
        data = {"transform": {"__class_fullname__": "Compose", "transforms": list(steps)}}
        (folder / "albumentations_config_eval.json").write_text(json.dumps(data))
    if settings is not None:
        (folder / "maskmill.json").write_text(json.dumps(settings))
    return smp_input_rule(
        folder, read_smp(folder, whole), encoder_weights=whole.get("encoder_weights")
    )


def step(name: str, **arguments: Any) -> dict[str, Any]:
    return {"__class_fullname__": name, "p": 1.0, **arguments}


@pytest.mark.parametrize(
    ("encoder", "weights", "expected"),
    [
        ("resnet34", "imagenet", IMAGENET),
        ("mit_b2", None, IMAGENET),
        ("inceptionv4", "imagenet", HALF),
        ("xception", "imagenet", HALF),
        ("efficientnet-b3", "advprop", HALF),
        ("tu-tf_mobilenetv3_large_100", "imagenet", HALF),
        ("tu-resnet10t", True, IMAGENET),
        ("tu-nobody_knows_it", True, IMAGENET),
    ],
)
def test_the_encoders_own_statistics(tmp_path: Path, encoder: str, weights, expected):
    found = rule(tmp_path, encoder_name=encoder, encoder_weights=weights)
    assert (found.mean, found.std) == expected
    assert found.rescale == 1 / 255


def test_pictures_keep_their_size_and_are_padded(tmp_path: Path):
    frame = rule(tmp_path).frame((33, 64))
    assert (frame.content_hw, frame.input_hw) == ((33, 64), (64, 64))
    frame = rule(tmp_path, _model_class="PAN").frame((33, 130))
    assert frame.input_hw == (128, 160)


def test_what_albumentations_wrote(tmp_path: Path):
    found = rule(
        tmp_path,
        step("Resize", height=48, width=80, interpolation=1),
        step("Normalize", mean=[0.1, 0.2, 0.3], std=0.5, max_pixel_value=100.0),
        step("albumentations.pytorch.transforms.ToTensorV2"),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (96, 160, 3), np.uint8)
    x, (frame,) = Fitter(found, "cpu").batch([Sample(ImageRecord("a", ""), pixels, (96, 160))])
    assert frame.content_hw == (48, 80)
    assert frame.input_hw == (64, 96)
    small = cv2.resize(pixels, (80, 48), interpolation=cv2.INTER_LINEAR)  # what albumentations does
    expected = (small / 100 - (0.1, 0.2, 0.3)) / 0.5
    content = x[0, :, :48, :80].permute(1, 2, 0).double().numpy()
    assert np.abs(content - expected).max() < 1.01 / 100 / 0.5  # one of 256 steps


def test_without_normalize_the_values_stay_raw(tmp_path: Path):
    """As in comma10k-segnet, a published checkpoint."""
    found = rule(tmp_path, step("Resize", height=32, width=32), step("ToTensorV2"))
    x, _ = Fitter(found, "cpu").batch(
        [Sample(ImageRecord("a", ""), np.full((32, 32, 3), 200, np.uint8), (32, 32))]
    )
    assert torch.equal(x, torch.full((1, 3, 32, 32), 200.0))


@pytest.mark.parametrize(
    ("made", "content_hw", "input_hw", "offset_yx"),
    [
        (step("LongestMaxSize", max_size=50), (25, 50), (32, 64), (0, 0)),
        (step("SmallestMaxSize", max_size=50), (50, 100), (64, 128), (0, 0)),
        (step("PadIfNeeded", min_height=100, min_width=None), (30, 60), (128, 64), (49, 2)),
        (
            step("PadIfNeeded", pad_height_divisor=48, pad_width_divisor=1, position="top_left"),
            (30, 60),
            (96, 96),
            (0, 0),
        ),
        (step("CenterCrop", height=10, width=10), (30, 60), (32, 64), (0, 0)),
    ],
)
def test_other_steps_of_albumentations(tmp_path: Path, made, content_hw, input_hw, offset_yx):
    frame = rule(tmp_path, made).frame((30, 60))
    assert frame.content_hw == content_hw
    assert frame.input_hw == input_hw
    assert frame.offset_yx == offset_yx


def test_our_own_file_goes_before_all(tmp_path: Path):
    settings = {
        "size": [40, 50],
        "divisor": 7,
        "mean": [1, 2, 3],
        "std": [4, 5, 6],
        "rescale": 1,
        "bgr": True,
    }
    found = rule(tmp_path, step("Resize", height=9, width=9), settings=settings)
    frame = found.frame((7, 8))
    assert (frame.content_hw, frame.input_hw) == ((40, 50), (42, 56))
    assert (found.mean, found.std, found.rescale) == ((1, 2, 3), (4, 5, 6), 1)
    assert found.bgr
    assert rule(tmp_path, settings={"mean": None}).mean is None


@pytest.mark.parametrize(
    ("steps", "settings", "message"),
    [
        ([step("CLAHE")], None, r"albumentations_config_eval\.json: the step CLAHE is not known"),
        ([step("Normalize", mean=[1, 2], std=[1, 2])], None, "are not 3 numbers"),
        ([step("Normalize", normalization="image")], None, "the step Normalize"),
        ([step("Resize", height=1)], None, "'width'"),
        ([], {"size": [0, 4]}, r"maskmill\.json: size is \[0, 4\]"),
        ([], {"std": "x"}, r"maskmill\.json"),
        ([], {"divisor": 0}, r"maskmill\.json: divisor is 0"),
    ],
)
def test_what_is_not_understood_is_named(tmp_path: Path, steps, settings, message: str):
    with pytest.raises(ValueError, match=message):
        rule(tmp_path, *steps, settings=settings)
