"""The second opinion of pycocotools on an instances file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_datasets import small_dataset

from pipeline.exporters import export
from pipeline.validation.exports import check_with_pycocotools
from pipeline.validation.findings import Findings


@pytest.fixture
def data(tmp_path) -> dict[str, Any]:
    export(small_dataset(tmp_path / "data"), "coco-instances", str(tmp_path / "out"))
    return json.loads(Path(tmp_path, "out", "instances.json").read_bytes())


def examples(data: dict[str, Any]) -> tuple[str, ...]:
    findings = Findings()
    check_with_pycocotools(json.dumps(data).encode(), findings)
    (found,) = findings.violations() or [None]
    assert found is None or found.rule == "export-pycocotools"
    return found.examples if found else ()


def test_it_agrees_and_keeps_quiet(data, capsys):
    assert examples(data) == ()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "change",
    [{"area": 2}, {"bbox": [0, 0, 1, 1]}, {"image_id": 1}, {"category_id": 9}, {"id": -1}],
)
def test_it_names_the_annotation(data, change):
    data["annotations"][2] |= change
    assert examples(data) == (f"annotation {data['annotations'][2]['id']}",)


def test_ids_that_occur_twice(data):
    data["annotations"].append(data["annotations"][0])
    assert examples(data) == ("1 annotations share an id",)
    data["images"].append(data["images"][0])
    assert examples(data) == ("1 images share an id", "1 annotations share an id")


def test_an_unknown_rule_is_a_mistake():
    with pytest.raises(ValueError, match="no such rule: mask-shape"):
        Findings().add("mask-shape", "", [1])
