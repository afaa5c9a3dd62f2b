"""Everything in the photos, named by words and by an exemplar: jobs.label, as a user runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import pyarrow.parquet as pq
import pytest
from pictures import disc_picture
from pycocotools.coco import COCO
from tiny_embedders import embedder_checkpoint
from tiny_sam import sam_checkpoint
from typer.testing import CliRunner

from jobs.label import app
from jobs.validate import app as validate

ONTOLOGY = """
[[category]]
name = "animal"
id = 7
prompts = ["a cat", "a dog", "things with wings"]
negative = ["a toy"]

[[category]]
name = "ground"
isthing = false
prompts = ["grass", "road"]
"""
EASY = (
    "everything.points_per_side=4",
    "everything.pred_iou_thresh=-1",
    "everything.stability_score_thresh=-1",
)


def label(folder: Path, *given: str, model: str | None = None) -> Any:
    sets = [part for each in EASY for part in ("--set", each)]
    name = model or f"{sam_checkpoint('sam')}+{embedder_checkpoint('clip')}"
    common = ["--input", str(folder / "in"), "--output", str(folder / "out"), "--model", name]
    return CliRunner().invoke(app, [*common, *sets, "--inline", "--quiet", *given])


def rows(folder: Path) -> list[dict[str, Any]]:
    """Annotations of the current version."""
    parts = json.loads((folder / "out" / "manifest.json").read_text())["parts"]
    tables = (folder / "out" / "annotations" / f"{part['name']}.parquet" for part in parts)
    return [row for table in tables for row in pq.read_table(table).to_pylist()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for seed in range(2):
        cv2.imwrite(str(tmp_path / "in" / f"{seed}.png"), disc_picture(seed))
    return tmp_path


def test_words_and_an_exemplar(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "o.toml").write_text(ONTOLOGY)
    monkeypatch.chdir(folder)
    given = [
        "--ontology", "o.toml", "--exemplar", "in/0.png:10,10,40,40=disc",
        "--set", "naming.rivals=[]", "--set", "model.threshold=0.01",
        "--set", "naming.similarity=0.99",
    ]  # fmt: skip
    result = label(folder, *given)
    assert result.exit_code == 0, result.output
    found = rows(folder)
    assert found
    texts = {"a cat": "animal", "a dog": "animal", "things with wings": "animal"}
    texts |= {"grass": "ground", "road": "ground", "0.png:10,10,40,40": "disc"}
    for row in found:
        assert texts[row["prompt"]] == row["category"]
        assert 0 <= row["score"] <= 1
        assert row["predicted_iou"] is not None
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    assert manifest["config"]["prompts"]["exemplars"] == [f"{folder}/in/0.png:10,10,40,40=disc"]
    names = {each["id"]: each["name"] for each in manifest["categories"]}
    assert names == {7: "animal", 2: "ground", 8: "disc"}
    coco = COCO(str(folder / "out" / "exports" / "coco" / "instances.json"))
    things = [row for row in found if row["category"] != "ground"]
    assert len(coco.anns) == len(things)
    assert manifest["model"]["family"] == "embedder"
    assert "+" in manifest["model"]["revision"]
    again = label(folder, *given)
    assert "nothing changed" in again.output
    (folder / "elsewhere").mkdir()
    shutil.copy(folder / "in" / "0.png", folder / "elsewhere" / "0.png")
    moved = [each.replace("in/0.png", "elsewhere/0.png") for each in given]
    assert "(0 computed, 0 reused, 2 unchanged)" in label(folder, *moved).output
    other = [each.replace("10,10,40,40", "10,10,40,39") for each in given]
    assert "(2 computed" in label(folder, *other).output


@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_a_published_dataset_is_valid(folder: Path, task: str) -> None:
    (folder / "o.toml").write_text(ONTOLOGY)
    given = ["--ontology", str(folder / "o.toml"), "--task", task]
    result = label(folder, *given, "--set", "naming.keep_unnamed=true", "--no-report")
    assert result.exit_code == 0, result.output
    assert {row["category"] for row in rows(folder)} <= {"animal", "ground", "object"}
    checked = CliRunner().invoke(validate, ["--dataset", str(folder / "out")])
    assert checked.exit_code == 0, checked.output


def test_an_image_embedder_needs_no_words(folder: Path) -> None:
    name = f"{sam_checkpoint('sam')}+{embedder_checkpoint('dinov2')}"
    shown = f"{folder}/in/0.png:10,10,40,40=disc"
    result = label(folder, "--exemplar", shown, "--no-report", model=name)
    assert result.exit_code == 0, result.output
    assert {row["category"] for row in rows(folder)} == {"disc"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "--exemplar IMAGE:x,y,w,h=CATEGORY"),
        (("--exemplar", "in/0.png=disc"), "expected IMAGE:x,y,w,h=CATEGORY"),
        (("--exemplar", "in/0.png:50,10,40,40=disc"), "the box leaves the picture"),
        (("--exemplar", "in/9.png:7,10,4,4=disc"), "9.png"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_image(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(folder)
    result = label(folder, *given)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert not (folder / "out").exists()
