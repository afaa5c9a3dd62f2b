"""config.json of our own format: which category each output is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.models.checkpoints.info import describe

ROAD = {"id": 7, "name": "road", "isthing": False, "color": "#101010"}
CAR = {"id": 3, "name": "car", "isthing": True, "color": "#202020"}


def write(folder: Path, **changes: Any) -> str:
    config = {
        "format": "maskmill",
        "family": "torchvision-semantic",
        "tasks": ["semantic"],
        "categories": [ROAD, CAR],
        "category_ids": [0, 3, 7],
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"x")
    return str(folder)


def test_category_ids_are_kept_in_the_order_of_outputs(tmp_path: Path) -> None:
    info = describe(write(tmp_path))
    assert info.category_ids == (0, 3, 7)
    assert info.weights == ("model.safetensors",)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([3, 8], "must be ids of its categories, or 0"),
        (["3"], "must be ids of its categories, or 0"),
        ([3.0], "must be ids of its categories, or 0"),
        ([True], "must be ids of its categories, or 0"),
        ({"0": 3}, "must be ids of its categories, or 0"),
        (None, "must be ids of its categories, or 0"),
        ([3, 7, 3], "has a category twice"),
    ],
)
def test_bad_category_ids_are_named(tmp_path: Path, ids: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        describe(write(tmp_path, category_ids=ids))


def test_a_users_table_finds_outputs_by_the_names_they_have(tmp_path: Path) -> None:
    model = write(tmp_path)
    assert describe(model, categories="cityscapes-19").category_ids == (0, 26, 7)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([{**CAR, "id": 12, "name": "vehicle", "index": 1}]))
    assert describe(model, categories=str(path)).category_ids == (0, 12, 0)


def test_a_family_that_names_categories_itself_takes_no_table() -> None:
    with pytest.raises(ValueError, match=r"model\.categories: the family 'otsu' has its own"):
        describe("otsu", categories="coco-80")


def test_a_file_that_the_config_names_holds_the_weights(tmp_path: Path) -> None:
    (tmp_path / "own.pth").write_bytes(b"x")
    model = write(tmp_path, weights="own.pth")
    with pytest.raises(ValueError, match="--allow-pickle"):
        describe(model)
    info = describe(model, allow_pickle=True)
    assert info.weights == ("own.pth",)
    (tmp_path / "own.pth").write_bytes(b"y")
    assert describe(model, allow_pickle=True).weights_sha256 != info.weights_sha256
