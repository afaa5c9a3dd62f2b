"""Where a model is: by short name, hub id or folder; and that each node of a cluster has it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants
from plain_checkpoints import COMMIT, hub_cache, plain_checkpoint

from pipeline.models.checkpoints.catalog import catalog
from pipeline.models.checkpoints.category_tables import category_table
from pipeline.models.checkpoints.info import describe, on_this_node
from pipeline.models.checkpoints.locate import WEIGHTS_ROOT, locate

NAMES = ["rust", "crack"]
ENTRY = catalog()["mask2former-swin-l-ade-semantic"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture
def ade(tmp_path: Path) -> Path:
    """A Mask2Former of ADE20K, whose names tell nothing."""
    names = [f"LABEL_{index}" for index in range(150)]
    return plain_checkpoint(tmp_path / "source", names, kind="mask2former")


def test_a_hub_id_is_found_at_a_branch_and_keeps_its_commit(cache: Path, tmp_path: Path) -> None:
    source = plain_checkpoint(tmp_path / "source", NAMES)
    snapshot = hub_cache(cache, "somebody/some-model", source)
    info = describe("somebody/some-model")
    assert info.folder == str(snapshot)
    assert (info.name, info.repo, info.source) == ("somebody/some-model",) * 2 + ("hub",)
    assert info.revision == COMMIT
    assert describe("somebody/some-model", revision=COMMIT) == info
    assert info.weights_sha256 == describe(str(source)).weights_sha256
    with pytest.raises(ValueError, match="not complete"):
        describe("somebody/some-model", revision="v2")


@pytest.mark.parametrize("model", [ENTRY.name, ENTRY.repo])
def test_the_catalog_gives_revision_licence_tasks_and_table(
    cache: Path, ade: Path, model: str
) -> None:
    snapshot = hub_cache(cache, ENTRY.repo, ade, commit=ENTRY.revision)
    info = describe(model)
    assert info.folder == str(snapshot)
    assert (info.name, info.repo, info.revision) == (model, ENTRY.repo, ENTRY.revision)
    assert info.tasks == ("semantic",)
    assert info.licence == ENTRY.licence
    assert info.table == "ade20k-150"
    assert info.category_ids == tuple(range(1, 151))


def test_another_revision_than_the_pinned_one_can_be_had(cache: Path, ade: Path) -> None:
    hub_cache(cache, ENTRY.repo, ade, commit=COMMIT)
    assert describe(ENTRY.name, revision="main").revision == COMMIT
    with pytest.raises(ValueError, match=ENTRY.revision):
        describe(ENTRY.name)


def test_a_folder_goes_before_a_hub_id(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_checkpoint(tmp_path / "somebody" / "some-model", NAMES)
    monkeypatch.chdir(tmp_path)
    place = locate("somebody/some-model")
    assert (place.source, place.name, place.repo) == ("folder", "some-model", "")


def test_a_short_name_goes_before_a_folder(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_checkpoint(tmp_path / ENTRY.name, NAMES)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="hf download"):
        locate(ENTRY.name)
    assert locate(f"./{ENTRY.name}").source == "folder"


@pytest.mark.parametrize(
    "model",
    ["no-such-name", "a/b/c", "/gone/folder", "../x", "~no-such-user/x", "a b/c", "s3://a/b"],
)
def test_what_is_neither_says_where_the_names_are(cache: Path, model: str) -> None:
    with pytest.raises(ValueError, match=r"python -m jobs\.models"):
        locate(model)


def test_a_nearly_known_name_is_suggested(cache: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'segformer-b0-ade'"):
        locate("segformer-b0-ad")


@pytest.mark.parametrize("model", ["m2f-stret", "./m2f-stret", "../A/m2f-stret", "far/m2f-stret"])
def test_a_mistyped_folder_is_compared_with_its_neighbours(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    for folder in ("A", "A/far"):
        plain_checkpoint(tmp_path / folder / "m2f-street", NAMES)
    monkeypatch.chdir(tmp_path / "A")
    near = model.replace("stret", "street")
    with pytest.raises(ValueError, match=f"did you mean '{near}'"):
        locate(model)


@pytest.mark.parametrize("model", ["otsu", "fcn-resnet50-voc", "folder"])
def test_only_the_hub_has_revisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    plain_checkpoint(tmp_path / "folder", NAMES)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^model\.revision"):
        locate(model, revision="main")


def test_a_node_that_has_the_files_takes_them_as_they_are(tmp_path: Path) -> None:
    info = describe(str(plain_checkpoint(tmp_path / "m", NAMES)))
    assert on_this_node(info) is info


def test_a_folder_that_a_node_does_not_see_is_named(tmp_path: Path) -> None:
    info = describe(str(plain_checkpoint(tmp_path / "m", NAMES)))
    shutil.rmtree(tmp_path / "m")
    with pytest.raises(ValueError, match="not on this machine: put the model where every node"):
        on_this_node(info)


def test_another_node_finds_the_same_commit_in_its_own_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = plain_checkpoint(tmp_path / "source", NAMES)
    hub_cache(cache, "somebody/some-model", source)
    info = describe("somebody/some-model")
    there = tmp_path / "other-node"
    newer = plain_checkpoint(tmp_path / "newer", ["other"])
    old = hub_cache(there, "somebody/some-model", source)
    hub_cache(there, "somebody/some-model", newer, commit="f" * 40)
    shutil.rmtree(cache)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(there))
    assert on_this_node(info) == replace(info, folder=str(old))
    shutil.rmtree(old)
    with pytest.raises(ValueError, match=f"hf download somebody/some-model --revision {COMMIT}"):
        on_this_node(info)


def test_bundled_weights_are_where_the_program_is(tmp_path: Path) -> None:
    info = describe("unet-nuclei")
    elsewhere = replace(info, folder=str(tmp_path / "driver" / "unet-nuclei"))
    assert on_this_node(elsewhere).folder == str(WEIGHTS_ROOT / "unet-nuclei")


def test_torchvisions_weights_are_looked_for_on_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    entry = catalog()["maskrcnn-resnet50-coco"]
    for home in ("driver", "node"):
        file = tmp_path / home / "hub" / "checkpoints" / entry.file
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "driver"))
    info = describe(entry.name, allow_pickle=True)
    assert info.categories == category_table("coco-80").categories
    shutil.rmtree(tmp_path / "driver")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "node"))
    assert on_this_node(info, allow_pickle=True).folder == str(
        tmp_path / "node" / "hub" / "checkpoints"
    )
