"""How checkpoints lie on disk × families: each answers like the plain folder, or names the cure."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import checkpoint
from tiny_sam import sam_checkpoint

from pipeline.masks import codec
from pipeline.models.checkpoints.families import segmenter_class
from pipeline.models.checkpoints.info import describe
from schemas.config.model import ModelConfig
from schemas.records import ImageRecord, Prompt, Sample, Segment

WEIGHTS = "model.safetensors"
SOURCES: dict[str, Callable[[], Path]] = {
    **{
        name: lambda name=name: checkpoint(name)
        for name in ("segformer", "mask2former", "eomt", "dpt", "smp-unet", "lraspp", "maskrcnn")
    },
    "sam": lambda: sam_checkpoint("sam"),
    "sam2": lambda: sam_checkpoint("sam2"),
}


def labels(model: Path, *, allow_pickle: bool = False) -> tuple[Segment, ...]:
    info = describe(str(model), allow_pickle=allow_pickle)
    options = ModelConfig(name="m", allow_pickle=allow_pickle)
    net = segmenter_class(info.family)(info, options, info.tasks[:1])
    net.load("cpu")
    pixels = np.random.default_rng(3).integers(0, 255, (50, 70, 3), np.uint8)
    prompts = (Prompt(1, bbox_xyxy=(5, 6, 40, 30)),) if info.family == "sam" else ()
    (found,) = net.segment([Sample(ImageRecord("a", "a"), pixels, (50, 70), prompts=prompts)])
    assert found.failure is None
    return found.segments


@cache
def plain(name: str) -> tuple[Segment, ...]:
    found = labels(SOURCES[name]())
    assert found
    return found


def check(found: tuple[Segment, ...], name: str) -> None:
    """The same, but for single pixels: sums depend on where weights lie in memory."""
    expected = plain(name)
    assert [one.category_id for one in found] == [one.category_id for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert codec.iou([one.counts], [other.counts], 50, 70)[0, 0] > 0.97


def copied(name: str, folder: Path) -> dict[str, torch.Tensor]:
    """The checkpoint without its weights, and these."""
    shutil.copytree(SOURCES[name](), folder)
    state = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    return state


def sharded(state: dict[str, torch.Tensor], folder: Path, count: int = 3) -> None:
    names = sorted(state)
    for number in range(count):
        some = {name: state[name] for name in names[number::count]}
        save_file(some, folder / f"model-{number + 1:05d}-of-{count:05d}.safetensors")


def prefixed(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": value for name, value in state.items()}


PICKLES = {
    "bin": lambda state: state,
    "model": lambda state: {"model": state, "epoch": 3, "args": argparse.Namespace(lr=0.1)},
    "state_dict": lambda state: {"state_dict": state, "optimizer": {"lr": torch.ones(2)}},
    "data-parallel": lambda state: {"model": prefixed(state, "module.")},
    "compiled": lambda state: prefixed(state, "_orig_mod."),
}


@pytest.mark.parametrize("layout", PICKLES)
@pytest.mark.parametrize("name", SOURCES)
def test_pickles_as_training_scripts_leave_them(name: str, layout: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    torch.save(PICKLES[layout](copied(name, folder)), folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="--allow-pickle"):
        describe(str(folder))
    check(labels(folder, allow_pickle=True), name)


@pytest.mark.parametrize("name", SOURCES)
def test_shards_without_an_index(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    sharded(copied(name, folder), folder)
    check(labels(folder), name)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ValueError, match=r"lacks the weights model-00002-of-00003\.safet"):
        describe(str(folder))


@pytest.mark.parametrize("name", sorted(SOURCES.keys() - {"lraspp", "maskrcnn"}))
def test_a_name_that_nobody_looks_for_is_named(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    torch.save(copied(name, folder), folder / "best_model.pth")
    if name == "smp-unet":  # which any one file of weights serves
        check(labels(folder, allow_pickle=True), name)
        return
    with pytest.raises(ValueError, match=r"best_model\.pth: name the file itself, .*pytorch_model"):
        describe(str(folder), allow_pickle=True)
    check(labels(folder / "best_model.pth", allow_pickle=True), name)


@pytest.mark.parametrize("name", ["segformer", "mask2former", "eomt", "dpt", "sam", "sam2"])
def test_a_processor_without_a_type(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(SOURCES[name](), folder)
    path = folder / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    del settings["image_processor_type"]
    path.write_text(json.dumps(settings))
    check(labels(folder), name)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "unheard-of"}))
    with pytest.raises(ValueError, match=r"model_type|segments nothing"):
        describe(str(folder))


def test_names_counted_from_one(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(checkpoint("segformer"), folder)
    config = json.loads((folder / "config.json").read_text())
    names = [config["id2label"][str(index)] for index in range(6)]
    config["id2label"] = {str(index): name for index, name in enumerate(names, start=1)}
    (folder / "config.json").write_text(json.dumps(config))
    assert [item.name for item in describe(str(folder)).categories] == names
    check(labels(folder), "segformer")
    config["id2label"]["9"] = config["id2label"].pop("6")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="one for each output"):
        describe(str(folder))


def test_a_dpt_without_the_layer_that_nothing_uses(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    state = copied("dpt", folder)
    unused = [name for name in state if "fusion_stage.layers.0.residual_layer1" in name]
    assert len(unused) == 4
    save_file(
        {n: v for n, v in state.items() if n not in unused}, folder / WEIGHTS, {"format": "pt"}
    )
    check(labels(folder), "dpt")
    state.pop("neck.fusion_stage.layers.1.residual_layer1.convolution1.weight")
    save_file(state, folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(ValueError, match=r"missing neck\.fusion_stage\.layers\.1"):
        labels(folder)


def test_a_table_that_holds_no_weights_says_what_it_holds(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    torch.save({"ema": copied("segformer", folder), "epoch": 3}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"it holds 'ema', 'epoch', and weights under none of"):
        labels(folder, allow_pickle=True)
