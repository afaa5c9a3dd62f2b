"""A plan says what the run then does, and does nothing itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pictures import write_pictures
from typer.testing import CliRunner

from jobs.label import app
from pipeline.engine.estimate import estimate
from pipeline.engine.run import label
from schemas.config.job import JobConfig


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "in", 12)
    return tmp_path


def job(folder: Path, **changes: Any) -> JobConfig:
    data = {
        "input": {"uri": str(folder / "in")},
        "output": str(folder / "out"),
        "model": {"name": "otsu"},
        "execution": {"shard_size": 3, "inline": True},
        **changes,
    }
    return JobConfig.parse(data)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def counts(folder: Path, **changes: Any) -> dict[str, int]:
    before = tree(folder)
    found = estimate(job(folder, **changes)).counts
    assert tree(folder) == before
    return {kind: count for kind, count in found.items() if count}


def test_a_new_dataset_is_all_new_and_nothing_is_written(folder):
    assert counts(folder) == {"new": 12}
    assert not (folder / "out").exists()
    assert estimate(job(folder)).hours is None


def test_an_unchanged_input_is_all_unchanged(folder):
    label(job(folder), export=False, report=False)
    assert counts(folder) == {"unchanged": 12}


def test_each_reason_is_counted_and_the_run_computes_as_many(folder):
    label(job(folder), export=False, report=False)
    pictures = sorted((folder / "in").rglob("*.png"))
    pictures[0].rename(pictures[0].with_name("zz-moved.png"))
    pictures[1].unlink()
    pictures[2].write_bytes(pictures[2].read_bytes() + b"tail")
    shutil.copy(pictures[3], folder / "in/new.png")
    (folder / "in/new.png").write_bytes(pictures[3].read_bytes() + b"another tail")
    found = counts(folder)
    assert (found["moved"], found["gone"]) == (1, 1)
    assert (found["new"], found["changed"]) == (1, 1)
    result = label(job(folder), export=False, report=False)
    assert result.computed == 2
    assert result.since is not None
    assert result.since.counts["moved"] == 1


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"model": {"name": "otsu", "min_area": 30}}, ("thresholds",)),
        ({"preprocess": {"steps": [{"step": "gamma", "gamma": 2.0}]}}, ("preprocessing",)),
        ({"task": "semantic"}, ("tasks",)),
        ({"model": {"name": "unet-nuclei"}}, ("model",)),
    ],
)
def test_a_change_of_the_config_is_named(folder, changes, reasons):
    label(job(folder), export=False, report=False)
    found = estimate(job(folder, **changes), price_per_hour=2.0)
    assert found.counts["recomputed"] == 12
    assert set(reasons) <= set(found.reasons)
    assert found.hours is not None
    assert found.cost == pytest.approx(found.hours * 2.0)
    assert found.bytes


def test_labels_that_were_made_before_count_as_reused(folder):
    label(job(folder), export=False, report=False)
    label(job(folder, model={"name": "otsu", "min_area": 30}), export=False, report=False)
    (folder / "in/new.png").write_bytes(b"x")
    found = counts(folder)
    assert found["new"] == 1
    assert "recomputed" not in found


def test_the_flag(folder):
    arguments = ["--input", str(folder / "in"), "--output", str(folder / "out"), "--inline"]
    arguments += ["--model", "otsu", "--quiet", "--plan"]
    shown = CliRunner().invoke(app, arguments)
    assert "12 new" in shown.stdout
    assert json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)["images"] == 12
    assert not (folder / "out").exists()
