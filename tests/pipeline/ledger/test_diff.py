"""What became of the pictures: added, gone, moved, changed, recomputed; copies left out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from pictures import write_pictures

from pipeline.engine.run import RunResult, label
from pipeline.engine.summary import FILE, read_summary
from pipeline.ledger.diff import diff_images
from pipeline.ledger.ledger import Ledger
from pipeline.storage.storage import Storage
from schemas.config.job import JobConfig


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "in", 12)
    return tmp_path


def run(folder: Path, **changes: Any) -> RunResult:
    data = {
        "input": {"uri": str(folder / "in")},
        "output": str(folder / "out"),
        "model": {"name": "otsu"},
        "execution": {"shard_size": 3, "inline": True},
        **changes,
    }
    return label(JobConfig.parse(data), export=False, report=False)


def pictures(folder: Path) -> list[Path]:
    return sorted((folder / "in").rglob("*.png"))


def test_the_first_version_has_nothing_before_it(folder):
    result = run(folder)
    assert result.since is None
    assert read_summary(Storage(), result.dataset)["version"] == 1
    assert run(folder).since is None


def test_each_picture_is_counted_once_by_what_became_of_it(folder):
    run(folder)
    before = pictures(folder)
    before[0].rename(before[0].with_name("moved.png"))  # the same bytes, a new name
    before[1].unlink()  # gone
    shutil.copy(before[2], before[3])  # other bytes
    (folder / "in/new.jpg").write_bytes(b"")  # added, and it fails
    (folder / "in/other.png").write_bytes(before[4].read_bytes() + b"tail")  # added
    since = run(folder).since
    assert since is not None
    assert since.counts == {
        "added": 2,
        "gone": 1,
        "moved": 1,
        "changed": 1,
        "recomputed": 0,
        "failed_now": 1,
        "failed_no_more": 0,
        "unchanged": 9,
    }
    assert str(since) == (
        "since version 1: +2 −1 pictures, 1 recomputed, 9 unchanged, 1 under new names"
    )
    assert since.names["failed_now"] == ["new.jpg"]
    stored = read_summary(Storage(), str(folder / "out"))
    assert stored["since"]["counts"] == since.counts
    assert (folder / "out" / FILE).exists()


def test_another_storage_place_is_no_change(folder):
    first = run(folder)
    shutil.move(folder / "in", folder / "elsewhere")
    result = run(folder, input={"uri": str(folder / "elsewhere")})
    assert result.since is not None
    assert result.since.counts["unchanged"] == 12
    assert result.computed == 0
    other = Ledger(result.dataset, first.manifest, Storage())
    assert diff_images(other, other).counts["unchanged"] == 12


def test_other_thresholds_recompute_and_copies_do_not_count(folder):
    run(folder)
    result = run(
        folder,
        model={"name": "otsu", "min_area": 30},
        augment={"copies": 1, "steps": [{"step": "flip"}]},
    )
    assert result.since is not None
    assert result.since.counts["recomputed"] == 12
    assert result.since.counts["added"] == 0
