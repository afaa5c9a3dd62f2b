"""Weights published as single files: where they are, what they need, how they are fetched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from pipeline.models.checkpoints import catalog as module
from pipeline.models.checkpoints.catalog import (
    CatalogEntry,
    catalog,
    file_command,
    file_place,
    find_file,
    torchvision_config,
)
from pipeline.models.checkpoints.info import describe
from pipeline.models.checkpoints.torchvision_files import build_torchvision, load_torchvision
from pipeline.models.sam_core.checkpoint import open_sam
from pipeline.models.sam_core.efficient_sam import efficient_sam
from pipeline.models.sam_core.tiny_vit import mobile_sam

LRASPP = catalog()["lraspp-mobilenetv3-voc"]
MASKRCNN = catalog()["maskrcnn-resnet50-coco"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "torch"


def test_torch_keeps_them_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file_place(LRASPP).parent == Path(torch.hub.get_dir()) / "checkpoints"
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    assert file_place(LRASPP).parent == Path(torch.hub.get_dir()) / "checkpoints"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert file_place(LRASPP).parent == Path(torch.hub.get_dir()) / "checkpoints"


def test_a_pickle_needs_permission_before_anything_is_fetched() -> None:
    with pytest.raises(ValueError, match=r"as a pickle.*--allow-pickle"):
        describe(LRASPP.name)


def test_what_is_missing_names_the_command_and_the_file() -> None:
    with pytest.raises(ValueError, match="could not be fetched") as caught:
        describe(LRASPP.name, allow_pickle=True)
    text = str(caught.value)
    assert file_command(LRASPP) in text
    assert str(file_place(LRASPP)) in text
    assert "\n" not in text


def test_the_command_is_python_that_torchvision_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load(url: str, **options: object) -> dict[str, object]:
        assert options == {"check_hash": True, "weights_only": True}
        asked.append(url)
        return {}

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)
    for entry in (LRASPP, MASKRCNN):
        start, _, code = file_command(entry).partition(' -c "')
        assert start == "python"
        exec(code.removesuffix('"'), {})
    assert [url.rpartition("/")[2] for url in asked] == [LRASPP.file, MASKRCNN.file]


def test_with_a_network_they_are_fetched_by_that_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    path = file_place(LRASPP)

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[:2] == [sys.executable, "-c"]
        assert "LRASPP_MobileNet_V3_Large_Weights" in command[2]
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module.subprocess, "run", run)
    assert find_file(LRASPP, allow_pickle=True) == path


def test_a_failed_fetch_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\nOSError: no route to host\n")
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ValueError, match="OSError: no route to host"):
        find_file(LRASPP, allow_pickle=True)


def test_what_is_there_is_described_and_loaded_by_name() -> None:
    """A file as torchvision publishes it, under the name that torch gives it."""
    path = file_place(LRASPP)
    path.parent.mkdir(parents=True)
    torch.manual_seed(0)
    net = build_torchvision({"name": LRASPP.architecture}, outputs=21)
    torch.save(net.state_dict(), path)
    info = describe(LRASPP.name, allow_pickle=True)
    assert (info.family, info.tasks, info.source) == (LRASPP.family, ("semantic",), "torchvision")
    assert info.category_ids == tuple(range(1, 22))
    assert info.revision == "d234d4ea"
    assert info.weights == (LRASPP.file,)
    loaded = load_torchvision(info, allow_pickle=True)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(loaded(x)["out"], net(x)["out"])
    path.write_bytes(path.read_bytes() + b"x")
    assert describe(LRASPP.name, allow_pickle=True).weights_sha256 != info.weights_sha256


def test_cocos_numbers_are_its_category_ids() -> None:
    config = torchvision_config(MASKRCNN)
    ids = config["category_ids"]
    assert len(ids) == 91
    assert ids[:3] == [0, 1, 2]
    assert ids[12] == 0
    assert sum(map(bool, ids)) == 80
    assert config["architecture"] == {"name": "maskrcnn_resnet50_fpn", "norm_eps": 0.0}


PLACED = [entry for entry in catalog().values() if entry.origin]


def test_there_are_three_that_nobody_fetches() -> None:
    assert {entry.name: entry.file for entry in PLACED} == {
        "mobile-sam": "mobile_sam.pt",
        "efficient-sam-vit-t": "efficient_sam_vitt.pt",
        "efficient-sam-vit-s": "efficient_sam_vits.pt",
    }


@pytest.mark.parametrize("entry", PLACED, ids=lambda entry: entry.name)
def test_what_its_user_places_is_asked_for_in_one_line(
    entry: CatalogEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with a network: nothing is fetched of them."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(ValueError, match=r"as a pickle.*--allow-pickle"):
        describe(entry.name)
    with pytest.raises(ValueError, match="nothing here fetches it") as caught:
        describe(entry.name, allow_pickle=True)
    said = str(caught.value)
    assert "\n" not in said
    assert entry.origin in said
    assert str(file_place(entry)) in said
    with pytest.raises(ValueError, match="only a model of the hub has revisions"):
        describe(entry.name, allow_pickle=True, revision="main")


@pytest.mark.parametrize("entry", PLACED, ids=lambda entry: entry.name)
def test_what_its_user_has_placed_is_the_same_by_name_and_by_path(
    entry: CatalogEntry, tmp_path: Path
) -> None:
    path = file_place(entry)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"some weights")
    (tmp_path / "own").mkdir()
    own = tmp_path / "own" / entry.file
    own.write_bytes(b"some weights")
    by_name = describe(entry.name, allow_pickle=True)
    by_path = describe(str(own), allow_pickle=True)
    assert by_name.name == entry.name
    assert (by_name.family, by_name.licence, by_name.source) == ("sam", "Apache-2.0", "folder")
    assert by_name.weights == by_path.weights == (entry.file,)
    assert by_name.config == by_path.config
    assert by_name.weights_sha256 == by_path.weights_sha256
    assert by_name.revision == by_name.weights_sha256[:12]
    open_sam(by_name, allow_pickle=True)


@pytest.mark.parametrize("entry", PLACED, ids=lambda entry: entry.name)
def test_parameters_are_those_of_its_network(entry: CatalogEntry) -> None:
    with torch.device("meta"):
        net: Any = (
            mobile_sam() if entry.architecture == "vit_t" else efficient_sam(entry.architecture)
        )
    number = sum(each.numel() for each in net.parameters())
    assert number / 1e6 == pytest.approx(entry.parameters, abs=0.05)
