"""A checkpoint is loaded whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_checkpoints import checkpoint
from torch import Tensor

from pipeline.models.checkpoints.load import fill, load_pretrained

HEAD = "decode_head.classifier.weight"


def changed(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> Any:
    shutil.copytree(checkpoint("segformer"), folder, dirs_exist_ok=True)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return SimpleNamespace(folder=str(folder), weights=("model.safetensors",))


def load(info: Any, **options: Any) -> torch.nn.Module:
    model_class = transformers.AutoModelForSemanticSegmentation
    return load_pretrained(model_class, info, device="cpu", **options)


def test_a_whole_checkpoint_is_ready_to_be_asked():
    info: Any = SimpleNamespace(folder=str(checkpoint("segformer")), weights=("model.safetensors",))
    model = load(info)
    assert not model.training
    assert not any(each.requires_grad for each in model.parameters())
    saved = load_file(checkpoint("segformer") / "model.safetensors")
    assert torch.equal(model.state_dict()[HEAD], saved[HEAD])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(HEAD), rf"SegformerForSemanticSegmentation: missing {HEAD}$"),
        (lambda w: w.update(extra=torch.zeros(2)), "left over extra$"),
        (lambda w: w.update({HEAD: torch.zeros(9, 16, 1, 1)}), f"of another shape {HEAD}$"),
        (
            lambda w: [w.pop(key) for key in list(w) if key.startswith("decode_head")],
            "missing decode_head.* and 1?[0-9] more$",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], None], message: str
):
    info = changed(tmp_path, change)
    with pytest.raises(ValueError, match=message) as caught:
        load(info)
    assert "\n" not in str(caught.value)


def test_what_follows_from_the_architecture_may_be_left_over(tmp_path: Path):
    key = "segformer.encoder.relative_position_index"
    load(changed(tmp_path, lambda w: w.update({key: torch.zeros(2)})))


def test_a_pickle_is_read_only_where_it_is_allowed(tmp_path: Path):
    shutil.copytree(checkpoint("segformer"), tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    torch.save(weights, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    info: Any = SimpleNamespace(folder=str(tmp_path), weights=("pytorch_model.bin",))
    with pytest.raises(ValueError, match="--allow-pickle"):
        load(info)
    assert torch.equal(load(info, allow_pickle=True).state_dict()[HEAD], weights[HEAD])


def test_a_pickle_that_holds_code_is_refused(tmp_path: Path):
    shutil.copytree(checkpoint("segformer"), tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    torch.save({HEAD: Path("x")}, tmp_path / "pytorch_model.bin")
    info: Any = SimpleNamespace(folder=str(tmp_path), weights=("pytorch_model.bin",))
    with pytest.raises(Exception, match="holds more than weights"):
        load(info, allow_pickle=True)


@pytest.mark.parametrize("channels", [1, 4])
def test_weights_of_other_pictures_are_refused_in_words(channels: int):
    """As of a SAM that was trained on grey or on four bands: a first convolution of N channels."""
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 16), torch.nn.Conv2d(8, 4, 1))
    state = {**net.state_dict(), "0.weight": torch.zeros(8, channels, 16, 16)}
    with pytest.raises(ValueError, match=f"0.weight sees pictures of {channels} channels, and thi"):
        fill(net, state, where="sam.pth")
    other = {**net.state_dict(), "1.weight": torch.zeros(4, 9, 1, 1)}
    with pytest.raises(ValueError, match=r"size mismatch for 1\.weight"):
        fill(net, other, where="sam.pth")
