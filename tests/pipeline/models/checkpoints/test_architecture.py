"""Weights that stand alone: the job says what network they are of."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from tiny_smp import network
from tiny_torchvision import tiny_semantic

from pipeline.models.checkpoints.architecture import SMP, TORCHVISION, config_of
from pipeline.models.checkpoints.catalog import catalog
from pipeline.models.checkpoints.info import describe
from pipeline.models.checkpoints.smp import read_smp, smp_input_rule
from pipeline.models.checkpoints.torchvision_files import SEMANTIC
from pipeline.models.network.fit import Fitter
from pipeline.models.smp import SmpSegmenter, load_smp
from schemas.config.model import ModelConfig
from schemas.records import ImageRecord, Sample

TINY: dict[str, Any] = {
    "name": "Unet",
    "encoder_name": "tu-test_resnet",
    "encoder_depth": 3,
    "decoder_channels": [16, 8, 8],
}


def test_the_names_are_the_libraries() -> None:
    assert {each.__name__ for each in smp.MODEL_ARCHITECTURES_MAPPING.values()} == {*SMP}
    assert TORCHVISION == SEMANTIC
    assert config_of({"name": "unet", "classes": 2}) == {"_model_class": "Unet", "classes": 2}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "UNett"}, "did you mean 'Unet'"),
        ({}, "model.architecture: name ''"),
        ({"name": "fcn_resnet50"}, "takes classes alone"),
        ({"name": "fcn_resnet50", "classes": 3, "aux": True}, "takes classes alone"),
    ],
)
def test_what_is_no_architecture(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config_of(given)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("layout", ["plain", "lightning"])
def test_a_state_dict_of_smp_answers_as_the_library_does(
    tmp_path: Path, channels: int, layout: str
) -> None:
    net = network("Unet") if channels == 3 else _of_channels(channels)
    state = net.state_dict()
    path = tmp_path / "best_model.pth"
    if layout == "lightning":
        path = tmp_path / "epoch.ckpt"
        inner = {f"model.{name}": value for name, value in state.items()}
        state = {"state_dict": {**inner, "loss_fn.weight": torch.ones(4)}, "epoch": 3}
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"model\.architecture = \{name"):
        describe(str(path), allow_pickle=True)
    architecture = {**TINY, "classes": 4, "in_channels": channels}
    with pytest.raises(ValueError, match="--allow-pickle"):
        describe(str(path), architecture=architecture)
    info = describe(str(path), allow_pickle=True, architecture=architecture)
    assert (info.family, info.weights) == ("smp", (path.name,))
    config = read_smp(info.folder, info.config)
    loaded = load_smp(info, config, allow_pickle=True)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    rule = smp_input_rule(info.folder, config, encoder_weights=None)
    x, _ = Fitter(rule, "cpu").batch([Sample(ImageRecord("a", "a"), pixels, (64, 96))])
    raw = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None] if channels == 1 else pixels
    trained: Any = timm.models.get_pretrained_cfg("test_resnet")
    mean, std = np.array(trained.mean), np.array(trained.std)
    if channels == 1:
        mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
    own = (raw[..., :channels] / 255 - mean[:channels]) / std[:channels]
    expected = torch.from_numpy(own.astype(np.float32)).permute(2, 0, 1)[None]
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x), net(x))
    model = SmpSegmenter(info, ModelConfig(name="m", allow_pickle=True), ("semantic",))
    model.load("cpu")
    (found,) = model.segment([Sample(ImageRecord("a", "a"), pixels, (64, 96))])
    with torch.inference_mode():
        winners = net(x).argmax(1)[0] + 1
    areas = {one.category_id: one.area for one in found.segments}
    assert areas == {int(n): int((winners == n).sum()) for n in winners.unique()}


def _of_channels(channels: int) -> Any:
    torch.manual_seed(5)
    arguments = {key: value for key, value in TINY.items() if key != "name"}
    return smp.Unet(encoder_weights=None, classes=4, in_channels=channels, **arguments).eval()


def test_more_channels_than_a_picture_has_are_refused(tmp_path: Path) -> None:
    net = _of_channels(4)
    net.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"in_channels is 4; .*images\.channels chooses"):
        describe(str(tmp_path))


def test_an_architecture_beside_a_config_is_refused(tmp_path: Path) -> None:
    network("Unet").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"config\.json says what the network is"):
        describe(str(tmp_path), architecture={**TINY, "classes": 4})


@pytest.mark.parametrize("prefix", ["", "module."])
def test_torchvisions_own_files_wherever_they_lie(
    tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = next(each for each in catalog().values() if each.architecture == SEMANTIC[-1])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    from pipeline.models.checkpoints.torchvision_files import build_torchvision, load_torchvision

    torch.manual_seed(0)
    net = build_torchvision({"name": entry.architecture}, outputs=21)
    state = {f"{prefix}{name}": value for name, value in net.state_dict().items()}
    saved = {"model": state, "epoch": 3, "args": argparse.Namespace(lr=0.1)} if prefix else state
    torch.save(saved, tmp_path / entry.file)
    info = describe(str(tmp_path / entry.file), allow_pickle=True)
    assert (info.name, info.family, info.licence) == (entry.name, entry.family, entry.licence)
    assert "aeroplane" in {item.name for item in info.categories}
    loaded = load_torchvision(info, allow_pickle=True).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in net.state_dict().items())
    shutil.move(tmp_path / entry.file, tmp_path / "mine.pth")
    with pytest.raises(ValueError, match=r"model\.architecture"):
        describe(str(tmp_path / "mine.pth"), allow_pickle=True)
    architecture = {"name": entry.architecture, "classes": 21}
    own = describe(str(tmp_path / "mine.pth"), allow_pickle=True, architecture=architecture)
    assert own.category_ids == tuple(range(21))
    loaded = load_torchvision(own, allow_pickle=True).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in net.state_dict().items())


def test_a_folder_of_ours_with_what_torchvisions_training_saves(tmp_path: Path) -> None:
    tiny_semantic(tmp_path / "m")
    plain = describe(str(tmp_path / "m"))
    from safetensors.torch import load_file

    from pipeline.models.checkpoints.torchvision_files import load_torchvision

    state = load_file(tmp_path / "m" / "model.safetensors")
    (tmp_path / "m" / "model.safetensors").unlink()
    wrapped = {f"module.{name}": value for name, value in state.items()}
    torch.save({"model": wrapped, "epoch": 3}, tmp_path / "m" / "model.pth")
    info = describe(str(tmp_path / "m"), allow_pickle=True)
    loaded = load_torchvision(info, allow_pickle=True).state_dict()
    assert info.categories.to_json() == plain.categories.to_json()
    assert all(torch.equal(value, loaded[name]) for name, value in state.items())
