"""Checkpoints of torchvision's networks: our folders and torchvision's own files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_torchvision import INSTANCE_IDS, SEMANTIC_IDS, STUFF, tiny_maskrcnn, tiny_semantic
from torchvision.models import detection, segmentation
from torchvision.transforms._presets import SemanticSegmentation

from pipeline.models.checkpoints.catalog import CatalogEntry, torchvision_config
from pipeline.models.checkpoints.info import describe, known_models
from pipeline.models.checkpoints.torchvision_files import (
    build_torchvision,
    load_torchvision,
    save_torchvision,
    torchvision_input_rule,
)
from pipeline.models.network.fit import Fitter
from pipeline.models.torchvision_semantic import TorchvisionSemantic
from schemas.config.model import ModelConfig
from schemas.records import ImageRecord, Sample

LRASPP = {"name": "lraspp_mobilenet_v3_large"}


def test_a_saved_folder_is_described_and_loaded(tmp_path: Path):
    info = describe(str(tiny_semantic(tmp_path)))
    assert info.family == "torchvision-semantic"
    assert info.tasks == ("semantic",)
    assert info.category_ids == SEMANTIC_IDS
    assert info.categories == STUFF
    assert info.licence == "Apache-2.0"
    net = load_torchvision(info)
    assert not net.training
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(load_torchvision(info)(x)["out"], net(x)["out"])


def test_an_instance_folder_too(tmp_path: Path):
    info = describe(str(tiny_maskrcnn(tmp_path)))
    assert info.family == "maskrcnn"
    assert info.tasks == ("instance",)
    assert info.category_ids == INSTANCE_IDS


def test_torchvisions_own_file_needs_permission(tmp_path: Path):
    """As its download gives it: a pickle with an auxiliary classifier."""
    own = segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=5, aux_loss=True
    ).eval()
    torch.save(own.state_dict(), tmp_path / "own.pth")
    info = describe(str(tiny_semantic(tmp_path / "folder")))
    name = {"name": "deeplabv3_mobilenet_v3_large"}
    info = replace(
        info,
        folder=str(tmp_path),
        config={**info.config, "architecture": name},
        weights=("own.pth",),
    )
    with pytest.raises(ValueError, match="--allow-pickle"):
        load_torchvision(info)
    net = load_torchvision(info, allow_pickle=True)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(net(x)["out"], own(x)["out"])


def torchvisions_weights(entry: CatalogEntry) -> Any:
    enumeration, _, member = entry.weights.partition(".")
    package = detection if entry.family == "maskrcnn" else segmentation
    return getattr(package, enumeration)[member]


@pytest.mark.parametrize("entry", [e for e in known_models() if e.weights], ids=lambda e: e.name)
def test_the_catalog_says_of_torchvisions_weights_what_torchvision_says(entry: CatalogEntry):
    weights = torchvisions_weights(entry)
    assert weights.url.endswith(f"/{entry.file}")
    config = torchvision_config(entry)
    names = {row["id"]: row["name"] for row in config["categories"]}
    ours = [names.get(id_, "N/A") for id_ in config["category_ids"]]
    for name, theirs in zip(ours, weights.meta["categories"], strict=True):
        if theirs in ("N/A", "__background__"):
            assert name in ("N/A", "background")
        else:
            assert name == theirs
    with torch.device("meta"):
        net = build_torchvision(config["architecture"], outputs=len(ours))
        if entry.family == "torchvision-semantic" and "lraspp" not in entry.architecture:
            build = getattr(segmentation, entry.architecture)
            whole = build(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
            net.aux_classifier = whole.aux_classifier  # is in the file, is not used
    assert sum(each.numel() for each in net.parameters()) == weights.meta["num_params"]


def test_a_name_of_the_catalog_is_labelled_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The file where torchvision's download puts it; its weights are random here."""
    entry = next(each for each in known_models() if each.name == "lraspp-mobilenetv3-voc")
    path = tmp_path / "hub" / "checkpoints" / entry.file
    path.parent.mkdir(parents=True)
    net = segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=21
    )
    torch.save(net.state_dict(), path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="--allow-pickle"):
        describe(entry.name)
    info = describe(entry.name, allow_pickle=True)
    options = ModelConfig(name=entry.name, allow_pickle=True)
    model = TorchvisionSemantic(info, options, ("semantic",))
    model.load("cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    (found,) = model.segment([Sample(ImageRecord("a", ""), pixels, (40, 60))])
    assert sum(segment.area for segment in found.segments) == 40 * 60


def test_a_state_that_does_not_fit_is_not_saved(tmp_path: Path):
    state = build_torchvision(LRASPP, outputs=3).state_dict()
    with pytest.raises(ValueError, match="do not fit"):
        save_torchvision(
            tmp_path / "new", state, architecture=LRASPP, categories=STUFF, category_ids=(0, 1)
        )
    assert not (tmp_path / "new").exists()


def test_what_an_auxiliary_classifier_holds_is_left_out(tmp_path: Path):
    state = dict(build_torchvision(LRASPP, outputs=2).state_dict())
    state["aux_classifier.0.weight"] = torch.zeros(3)
    save_torchvision(tmp_path, state, architecture=LRASPP, categories=STUFF, category_ids=(0, 1))
    load_torchvision(describe(str(tmp_path)))


@pytest.mark.parametrize("hw", [(480, 640), (333, 200)])
def test_semantic_input_is_that_of_torchvisions_preset(hw: tuple[int, int]):
    pixels = np.random.default_rng(0).integers(0, 256, (*hw, 3), np.uint8)
    rule = torchvision_input_rule({"family": "torchvision-semantic"})
    found, _ = Fitter(rule, "cpu").batch([Sample(ImageRecord("a", ""), pixels, hw)])
    expected = SemanticSegmentation(resize_size=520)(torch.from_numpy(pixels).permute(2, 0, 1))
    step = 1 / 255 / 0.224  # its older resizing rounds otherwise
    torch.testing.assert_close(found[0], expected, atol=1.01 * step, rtol=0)
    assert (found[0] - expected).abs().mean() < step / 4


@pytest.mark.parametrize("seed", range(3))
def test_instance_input_has_the_size_that_torchvision_gives(seed: int):
    transform = build_torchvision({"name": "maskrcnn_resnet18_fpn"}, outputs=2).transform
    rng = np.random.default_rng(seed)
    rule = torchvision_input_rule({"family": "maskrcnn"})
    for hw in rng.integers(100, 900, (4, 2)).tolist():
        image = torch.zeros(3, *hw)
        resized, _ = transform.resize(image, None)
        assert rule.frame((hw[0], hw[1])).content_hw == tuple(resized.shape[-2:])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shortest": 3}, "unknown key 'shortest'; did you mean 'shortest_edge'"),
        ({"shortest_edge": -1}, "bad value"),
        ({"shortest_edge": "x"}, "bad value"),
        ({"mean": [1, 2]}, "bad value"),
        ({"std": [1, 0, 1]}, "bad value"),
    ],
)
def test_bad_input_settings_are_named(given: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        torchvision_input_rule({"family": "torchvision-semantic", "input": given})


def test_the_config_is_plain(tmp_path: Path):
    config = json.loads((tiny_semantic(tmp_path) / "config.json").read_text())
    assert config["architecture"] == LRASPP
    assert config["input"] == {
        "shortest_edge": 64,
        "longest_edge": 128,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    assert config["category_ids"] == list(SEMANTIC_IDS)
