"""Which files of a checkpoint hold weights, which are hashed, and what a pickle needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.models.checkpoints.files import (
    DECIDING,
    class_info_files,
    read_json,
    weight_files,
    weights_hash,
)


def put(folder: Path, *names: str, content: str = "x") -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(content)


def found(folder: Path, **options) -> list[str]:
    return [path.name for path in weight_files(folder, **options)]


def hashed(folder: Path) -> str:
    return weights_hash(folder, weight_files(folder, any_name=True, allow_pickle=True))


def test_the_whole_file_goes_before_others(tmp_path: Path) -> None:
    put(tmp_path, "b.safetensors", "a.safetensors", "pytorch_model.bin", "c.pth")
    assert found(tmp_path, any_name=True) == ["a.safetensors", "b.safetensors"]
    assert found(tmp_path, allow_pickle=True) == ["pytorch_model.bin"]
    put(tmp_path, "model.safetensors")
    assert found(tmp_path, allow_pickle=True) == ["model.safetensors"]


@pytest.mark.parametrize(
    ("index", "ending", "allowed"),
    [
        ("model.safetensors.index.json", "safetensors", False),
        ("pytorch_model.bin.index.json", "bin", True),
    ],
)
def test_shards_are_those_of_the_index(
    tmp_path: Path, index: str, ending: str, allowed: bool
) -> None:
    one, two = (f"part-0000{i}-of-00002.{ending}" for i in (1, 2))
    table = {"b.weight": two, "a.weight": one, "c.weight": two}
    put(tmp_path, index, content=json.dumps({"weight_map": table}))
    put(tmp_path, two)
    with pytest.raises(ValueError, match=f"lacks the weights {one}"):
        weight_files(tmp_path, allow_pickle=allowed)
    put(tmp_path, one)
    assert found(tmp_path, allow_pickle=allowed) == [one, two]
    before = hashed(tmp_path)
    put(tmp_path, index, content=json.dumps({"weight_map": {**table, "c.weight": one}}))
    assert hashed(tmp_path) != before


@pytest.mark.parametrize("names", [None, [], {"a": "../secret"}, {"a": 5}, {"a": ""}])
def test_an_index_names_files_of_its_folder(tmp_path: Path, names) -> None:
    put(tmp_path, "model.safetensors.index.json", content=json.dumps({"weight_map": names}))
    with pytest.raises(ValueError, match="names no files of weights"):
        weight_files(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "sam.pth"])
def test_a_pickle_needs_permission_and_the_error_says_why(tmp_path: Path, name: str) -> None:
    put(tmp_path, name)
    with pytest.raises(ValueError, match=r"may run code.*--allow-pickle.*safetensors is better"):
        weight_files(tmp_path, any_name=True)
    assert found(tmp_path, any_name=True, allow_pickle=True) == [name]


def test_a_file_that_the_config_names_is_the_one(tmp_path: Path) -> None:
    put(tmp_path, "own.pth", "other.pth")
    assert found(tmp_path, named="own.pth", allow_pickle=True) == ["own.pth"]
    with pytest.raises(ValueError, match="--allow-pickle"):
        weight_files(tmp_path, named="own.pth")
    with pytest.raises(ValueError, match=r"lacks the weights gone\.safetensors"):
        weight_files(tmp_path, named="gone.safetensors")


def test_a_training_state_is_no_weights(tmp_path: Path) -> None:
    put(tmp_path, "optimizer.pt", "training_args.bin", "rng_state.npz")
    with pytest.raises(ValueError, match=r"holds no \.safetensors file"):
        weight_files(tmp_path, any_name=True, allow_pickle=True)


def test_the_hash_sees_every_weight_by_name(tmp_path: Path) -> None:
    put(tmp_path, "config.json", "a.safetensors", "b.safetensors")
    seen = {hashed(tmp_path)}
    (tmp_path / "README.md").write_text("a model card changes nothing")
    (tmp_path / "trainer_state.json").write_text("{}")
    assert {hashed(tmp_path)} == seen
    put(tmp_path, "a.safetensors", content="y")
    seen.add(hashed(tmp_path))
    (tmp_path / "a.safetensors").rename(tmp_path / "c.safetensors")
    seen.add(hashed(tmp_path))
    put(tmp_path, "config.json", content="y")
    seen.add(hashed(tmp_path))
    assert len(seen) == 4


@pytest.mark.parametrize("name", [*DECIDING, "ade20k_panoptic.json"])
def test_the_hash_sees_what_else_decides(tmp_path: Path, name: str) -> None:
    put(tmp_path, "config.json", "model.safetensors")
    before = hashed(tmp_path)
    put(tmp_path, name, content="{}")
    within = hashed(tmp_path)
    put(tmp_path, name, content='{"size": 1}')
    assert len({before, within, hashed(tmp_path)}) == 3


def test_the_hash_follows_links_and_forgets_the_place(tmp_path: Path) -> None:
    put(tmp_path / "blobs", "abc", "def")
    put(tmp_path / "plain", "config.json", "model.safetensors")
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "config.json").symlink_to(tmp_path / "blobs" / "abc")
    (linked / "model.safetensors").symlink_to(tmp_path / "blobs" / "def")
    assert hashed(linked) == hashed(tmp_path / "plain")


def test_class_info_is_what_the_processor_names_or_a_panoptic_file(tmp_path: Path) -> None:
    assert class_info_files(tmp_path) == []
    put(tmp_path, "preprocessor_config.json", content='{"class_info_file": "things.json"}')
    put(tmp_path, "coco_panoptic.json", "other.json", content="{}")
    assert [path.name for path in class_info_files(tmp_path)] == ["coco_panoptic.json"]
    put(tmp_path, "things.json", content="{}")
    assert {path.name for path in class_info_files(tmp_path)} == {
        "coco_panoptic.json",
        "things.json",
    }
    put(tmp_path, "preprocessor_config.json", content='{"class_info_file": "../x.json"}')
    assert len(class_info_files(tmp_path)) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 50_000])
def test_what_is_no_json_object_is_named(tmp_path: Path, text: str) -> None:
    put(tmp_path, "x.json", content=text)
    with pytest.raises(ValueError, match=r"x\.json"):
        read_json(tmp_path / "x.json")
