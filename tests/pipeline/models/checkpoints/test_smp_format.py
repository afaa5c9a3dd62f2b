"""Folders of segmentation-models-pytorch: which category each output is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.models.checkpoints.info import describe

RIVER = {"id": 4, "name": "river", "isthing": False, "color": "#0000ff"}


def write(folder: Path, *, sidecar: dict[str, Any] | None = None, **config: Any) -> str:
    whole = {"_model_class": "Unet", "encoder_name": "resnet18", "classes": 3, **config}
    (folder / "config.json").write_text(json.dumps(whole))
    (folder / "model.safetensors").write_bytes(b"x")
    if sidecar is not None:
        (folder / "maskmill.json").write_text(json.dumps(sidecar))
    return str(folder)


def test_without_names_outputs_are_numbered(tmp_path: Path) -> None:
    info = describe(write(tmp_path))
    assert (info.family, info.tasks) == ("smp", ("semantic",))
    assert info.category_ids == (1, 2, 3)
    assert [item.name for item in info.categories] == ["category 1", "category 2", "category 3"]


def test_a_network_of_yes_or_no_has_background_behind_its_outputs(tmp_path: Path) -> None:
    info = describe(write(tmp_path, classes=1))
    assert info.category_ids == (1, 2)
    assert info.categories.by_id()[2].is_background


def test_the_file_beside_it_names_categories_and_licence(tmp_path: Path) -> None:
    model = write(tmp_path, classes=1, sidecar={"categories": [RIVER], "licence": "MIT"})
    info = describe(model)
    assert info.category_ids == (4, 0)
    assert info.licence == "MIT"
    assert describe(model).weights_sha256 == info.weights_sha256
    with pytest.raises(ValueError, match="two categories have the id 4"):
        describe(write(tmp_path, classes=2, sidecar={"categories": [RIVER, RIVER]}))


def test_a_built_in_table_goes_by_order(tmp_path: Path) -> None:
    model = write(tmp_path, classes=150)
    assert describe(model, categories="ade20k-150").category_ids == tuple(range(1, 151))


def test_a_users_table_goes_before_the_file(tmp_path: Path) -> None:
    model = write(tmp_path, classes=1, sidecar={"categories": [RIVER]})
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([{**RIVER, "id": 8}]))
    assert describe(model, categories=str(path)).category_ids == (8, 0)
