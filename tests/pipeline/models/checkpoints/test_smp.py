"""What a checkpoint of segmentation-models-pytorch says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_smp import tiny_smp

from pipeline.models.checkpoints.smp import read_smp


def read(folder: Path, **settings: Any):
    if settings:
        (folder / "maskmill.json").write_text(json.dumps(settings))
    return read_smp(folder, json.loads((folder / "config.json").read_text()))


def written(folder: Path, **config: Any) -> Path:
    whole = {"_model_class": "Unet", "encoder_name": "resnet18", "classes": 3, **config}
    (folder / "config.json").write_text(json.dumps(whole))
    return folder


def test_a_saved_checkpoint(tmp_path: Path):
    config = read(tiny_smp(tmp_path, name="FPN"))
    assert (config.architecture, config.classes, config.mode) == ("FPN", 4, "multiclass")
    assert not config.adds_background
    assert config.arguments["encoder_name"] == "tu-test_resnet"
    assert not {"_model_class", "encoder_weights", "activation"} & set(config.arguments)


@pytest.mark.parametrize(
    ("config", "settings", "mode"),
    [
        ({"classes": 1}, {}, "binary"),
        ({"classes": 1, "activation": "sigmoid"}, {}, "binary"),
        ({"classes": 2}, {}, "multiclass"),
        ({"classes": 2, "activation": "softmax2d"}, {}, "multiclass"),
        ({"classes": 2, "activation": "sigmoid"}, {}, "multilabel"),
        ({"classes": 2}, {"mode": "multilabel"}, "multilabel"),
    ],
)
def test_how_the_outputs_are_meant(tmp_path: Path, config, settings, mode: str):
    found = read(written(tmp_path, **config), **settings)
    assert found.mode == mode
    assert found.adds_background == (mode != "multiclass")


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        ({"in_channels": 4}, {}, "in_channels is 4"),
        ({"classes": 0}, {}, "classes is 0"),
        ({"classes": 3}, {"mode": "binary"}, "mode 'binary' with 3 classes"),
        ({"classes": 3}, {"mode": "multi"}, "known: binary, multiclass, multilabel"),
        ({}, {"means": [0, 0, 0]}, "unknown key 'means'; did you mean 'mean'"),
    ],
)
def test_what_is_not_understood_is_named(tmp_path: Path, config, settings, message: str):
    with pytest.raises(ValueError, match=message):
        read(written(tmp_path, **config), **settings)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_damaged_settings_are_named(tmp_path: Path, text: str):
    (written(tmp_path) / "maskmill.json").write_text(text)
    with pytest.raises(ValueError, match=r"maskmill\.json is no"):
        read(tmp_path)
