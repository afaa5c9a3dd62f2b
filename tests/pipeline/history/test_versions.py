"""Versions: listed, gone back to without losing any, let go without touching the current one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pictures import write_pictures
from typer.testing import CliRunner

from jobs.diff import app as diff_app
from jobs.versions import app
from pipeline.engine.run import label
from pipeline.history.prune import prune
from pipeline.history.versions import list_versions, open_version, retire, roll_back
from pipeline.ledger.ledger import open_ledger
from pipeline.storage.storage import Storage
from schemas.config.job import JobConfig

STORAGE = Storage()


@pytest.fixture
def out(tmp_path: Path) -> str:
    write_pictures(tmp_path / "in", 6)
    for area in (1, 20, 40):
        data: dict[str, Any] = {
            "input": {"uri": str(tmp_path / "in")},
            "output": str(tmp_path / "out"),
            "model": {"name": "otsu", "min_area": area},
            "execution": {"inline": True},
        }
        label(JobConfig.parse(data), export=False, report=False)
    return str(tmp_path / "out")


def numbers(out: str) -> list[int]:
    return [one.manifest.version for one in list_versions(out, STORAGE)]


def test_going_back_is_a_new_version_that_says_what_the_old_one_said(out):
    old = open_version(out, 1, STORAGE).manifest
    now = roll_back(out, 1, STORAGE)
    assert (now.version, numbers(out)) == (4, [1, 2, 3, 4])
    assert now.same_dataset(old)
    assert open_ledger(out).manifest == now
    assert [one.current for one in list_versions(out)] == [False, False, False, True]
    with pytest.raises(ValueError, match="keeps no version 9; it has 1, 2, 3, 4"):
        roll_back(out, 9, STORAGE)


def test_going_back_to_what_was_pruned_is_refused(out):
    for part in open_version(out, 1, STORAGE).manifest.parts:
        Path(out, "versions", "images", f"{part.name}.parquet").unlink()
    before = Path(out, "manifest.json").read_bytes()
    with pytest.raises(OSError, match="gone or cut short"):
        roll_back(out, 1, STORAGE)
    assert Path(out, "manifest.json").read_bytes() == before


def test_old_versions_go_and_the_current_one_never(out):
    assert retire(out, STORAGE, keep=1, dry_run=True) == [1, 2]
    assert retire(out, STORAGE, keep=1, older_than_s=3600) == []
    assert numbers(out) == [1, 2, 3]
    assert retire(out, STORAGE, keep=1) == [1, 2]
    assert numbers(out) == [3]
    assert prune(out, STORAGE)
    assert len(list(open_ledger(out).rows())) == 6


def test_the_jobs(out):
    listed = CliRunner().invoke(app, ["--dataset", out, "--json"])
    assert [row["version"] for row in json.loads(listed.stdout)] == [1, 2, 3]
    back = CliRunner().invoke(app, ["--dataset", out, "--rollback", "2"])
    assert "version 4 holds what version 2 held" in back.stdout
    gone = CliRunner().invoke(app, ["--dataset", out, "--keep", "2", "--older-than", "5y"])
    assert gone.exit_code == 2
    gone = CliRunner().invoke(app, ["--dataset", out, "--keep", "2"])
    assert "forgot 2 versions: 1, 2" in gone.stdout
    both = [f"{out}/versions/000003.json", out, "--json", f"{out}/../diff.json"]
    found = CliRunner().invoke(diff_app, both)
    assert found.exit_code == 0, found.output
    assert "since version 3: +0 −0 pictures" in found.stdout
    data = json.loads(Path(out, "../diff.json").read_text())
    assert data["pictures"]["counts"]["recomputed"] > 0
    assert data["objects"]["images"]["compared"] == 6


def test_a_run_lets_old_versions_go_where_the_job_says_so(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 6)
    for area in (1, 20, 40):
        data: dict[str, Any] = {
            "input": {"uri": str(tmp_path / "in")},
            "output": str(tmp_path / "out"),
            "model": {"name": "otsu", "min_area": area},
            "execution": {"inline": True},
            "history": {"keep": 2},
        }
        label(JobConfig.parse(data), export=False, report=False)
    out = tmp_path / "out"
    assert numbers(str(out)) == [2, 3]
    named = {part.name for one in list_versions(str(out), STORAGE) for part in one.manifest.parts}
    for folder in ("images", "versions/images", "annotations", "versions/annotations"):
        assert {path.stem for path in (out / folder).iterdir()} <= named
    assert not prune(str(out), STORAGE)
    data["history"] = {"keep": 1, "older_than": "1h"}
    label(JobConfig.parse(data), export=False, report=False)
    assert numbers(str(out)) == [2, 3]  # too young
    data["history"] = {"keep": 1}
    label(JobConfig.parse(data), export=False, report=False)
    assert numbers(str(out)) == [3]
