"""A night that a gate holds back, and the person who lets it through."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import write_pictures
from typer.testing import CliRunner, Result

from jobs.label import app as label_app
from jobs.promote import app
from pipeline.history.prune import prune
from pipeline.ledger.lease import Lease
from pipeline.ledger.ledger import open_ledger
from pipeline.storage.storage import Storage
from pipeline.validation.validate import validate

GATE = ("--set", "gate.max_area_change=0.2")
STORAGE = Storage()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Version 1, and a version 2 of larger segments that was held back."""
    write_pictures(tmp_path / "in", 6)
    assert label(tmp_path, *GATE).exit_code == 0  # nothing to drift from yet
    held = label(tmp_path, *GATE, "--set", "model.min_area=60")
    assert held.exit_code == 1, held.output
    (line,) = held.stderr.splitlines()
    assert line.startswith("error: held back by the gate: mean area ")
    assert "at most 0.2 (gate.max_area_change); nothing is published" in line
    assert f"python -m jobs.promote --dataset {tmp_path / 'out'}" in line
    return tmp_path / "out"


def label(folder: Path, *more: str) -> Result:
    words = ["--input", str(folder / "in"), "--output", str(folder / "out"), "--model", "otsu"]
    return CliRunner().invoke(label_app, [*words, "--inline", "-q", "--no-report", *more])


def promote(out: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["--dataset", str(out), *more])


def globbed(out: Path) -> set[str]:
    return {path.stem for path in (out / "images").iterdir()}


def named(manifest: Path) -> set[str]:
    return {part["name"] for part in json.loads(manifest.read_bytes())["parts"]}


def test_readers_keep_what_they_had_until_it_is_promoted(out: Path) -> None:
    assert open_ledger(str(out)).manifest.version == 1
    assert globbed(out) == named(out / "manifest.json")
    assert not validate(str(out)).violations
    candidate = json.loads((out / "held/manifest.json").read_bytes())
    done = promote(out, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output) == {"version": 2, "counts": candidate["counts"]}
    assert json.loads((out / "manifest.json").read_bytes()) == candidate
    assert globbed(out) == named(out / "manifest.json")
    assert not (out / "held/manifest.json").exists()
    again = promote(out)
    assert (again.exit_code, "holds nothing that a gate held back" in again.stderr) == (2, True)


def test_the_same_command_after_it_is_promoted_finds_nothing_to_do(out: Path) -> None:
    assert promote(out).exit_code == 0
    done = label(out.parent, *GATE, "--set", "model.min_area=60")
    assert (done.exit_code, "up to date (version 2)" in done.output) == (0, True), done.output
    assert not validate(str(out)).violations


def test_the_same_command_before_is_held_back_again_without_work(out: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (out / "receipts").iterdir()}
    assert label(out.parent, *GATE, "--set", "model.min_area=60").exit_code == 1
    assert {path: path.stat().st_mtime_ns for path in (out / "receipts").iterdir()} == before
    assert promote(out).exit_code == 0


def test_prune_keeps_what_is_held_and_a_published_night_forgets_it(out: Path) -> None:
    assert prune(str(out), STORAGE) == []
    assert label(out.parent, *GATE).exit_code == 0
    assert not (out / "held/manifest.json").exists()
    assert prune(str(out), STORAGE)
    assert open_ledger(str(out)).manifest.version == 1


def test_parts_that_are_gone_are_not_promoted(out: Path) -> None:
    (name, *_) = sorted(named(out / "held/manifest.json") - named(out / "manifest.json"))
    (out / f"versions/annotations/{name}.parquet").unlink()
    before = (out / "manifest.json").read_bytes()
    done = promote(out)
    assert (done.exit_code, "gone or cut short" in done.stderr) == (2, True), done.output
    assert (out / "manifest.json").read_bytes() == before
    assert (out / "held/manifest.json").exists()


def test_a_run_that_writes_the_dataset_stands_in_the_way(out: Path) -> None:
    with Lease(STORAGE, str(out)) as lease:
        lease.take()
        done = promote(out)
    assert (done.exit_code, "another run writes" in done.stderr) == (3, True), done.output
    assert (out / "held/manifest.json").exists()


def test_a_gold_set_holds_a_first_version_back(tmp_path: Path) -> None:
    """Two discs drawn by hand: otsu finds both, and none where they must be larger."""
    (tmp_path / "in").mkdir()
    (tmp_path / "gold").mkdir()
    for name in ("a", "b"):
        labels = np.zeros((64, 64), np.uint16)
        for number, x in enumerate((16, 46), 1):
            labels[np.hypot(*np.ogrid[-32:32, -x : 64 - x]) < 8] = number
        cv2.imwrite(str(tmp_path / f"gold/{name}.png"), labels)
        cv2.imwrite(str(tmp_path / f"in/{name}.png"), np.where(labels > 0, 220, 20))
    gate = ("--set", f"gate.ground_truth={tmp_path / 'gold'}", "--set", "gate.min_matching=0.9")
    bad = label(tmp_path, *gate, "--set", "model.min_area=1000")
    assert bad.exit_code == 1, bad.output
    assert "matching 0, at least 0.9 (gate.min_matching)" in bad.stderr
    assert not (tmp_path / "out/manifest.json").exists()
    good = label(tmp_path, *gate)
    assert good.exit_code == 0, good.output
    missing = label(tmp_path, "--set", "gate.ground_truth=nowhere", "--set", "gate.min_ap=0.1")
    assert missing.exit_code == 2
    assert "gate.ground_truth: no such file or folder" in missing.stderr
