"""A new version writes the label PNGs of what changed, and leaves the others where they are."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import pytest
from pictures import disc_picture, write_pictures

from pipeline.engine.run import label
from pipeline.exporters import export_all
from pipeline.exporters.exports import check_exports
from pipeline.ledger.ledger import open_ledger
from schemas.config.job import JobConfig

COUNT = 12


def run(root: Path, **model: Any) -> None:
    data = {
        "input": {"uri": str(root / "in")},
        "output": str(root / "out"),
        "model": {"name": "otsu", **model},
        "task": "panoptic",
        "execution": {"inline": True, "shard_size": 4},
    }
    label(JobConfig.parse(data), report=False)


def places(root: Path) -> dict[str, int]:
    """PNG → its inode: another one where it was written anew."""
    out = root / "out" / "exports"
    return {path.relative_to(out).as_posix(): path.stat().st_ino for path in out.rglob("*.png")}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "in", COUNT)
    run(tmp_path)
    return tmp_path


def assert_as_if_fresh(root: Path) -> None:
    ledger = open_ledger(str(root / "out"))
    problems: list[tuple[str, str]] = []
    check_exports(ledger, lambda rule, line: problems.append((rule, line)))
    assert not problems
    export_all(ledger, str(root / "fresh"))
    for path in (root / "fresh").rglob("*"):
        if path.is_file():
            there = root / "out" / "exports" / path.relative_to(root / "fresh")
            assert there.read_bytes() == path.read_bytes(), path


def test_only_changed_and_new_images_are_painted(root: Path) -> None:
    before = places(root)
    assert len(before) == 2 * COUNT
    cv2.imwrite(str(root / "in" / "a" / "p000.png"), disc_picture(99))
    cv2.imwrite(str(root / "in" / "a" / "new.png"), disc_picture(98))
    (root / "in" / "b" / "p001.png").unlink()
    run(root)
    after = places(root)
    painted = {Path(name).stem for name, place in after.items() if before.get(name) != place}
    assert painted == {"p000", "new"}
    assert not [name for name in after if name.endswith("b/p001.png")]
    assert_as_if_fresh(root)


def test_a_png_whose_name_moves_is_painted(root: Path) -> None:
    shutil.copy(root / "in" / "a" / "p000.png", root / "in" / "a" / "p000.bmp")
    run(root)
    names = {Path(name).name for name in places(root) if "p000" in name}
    assert names == {"p000.png.png", "p000.bmp.png"}
    assert_as_if_fresh(root)


def test_another_model_paints_what_it_sees_otherwise(root: Path) -> None:
    before = places(root)
    run(root, min_area=60)
    after = places(root)
    assert 0 < sum(before[name] != place for name, place in after.items()) < 2 * COUNT
    assert_as_if_fresh(root)


@pytest.mark.parametrize("lost", ["versions/000001.json", "exports/exports.json"])
def test_without_a_word_of_what_lies_there_all_is_painted(root: Path, lost: str) -> None:
    before = places(root)
    (root / "out" / lost).unlink()
    cv2.imwrite(str(root / "in" / "a" / "p000.png"), disc_picture(99))
    run(root)
    assert not set(before.values()) & set(places(root).values())
    assert_as_if_fresh(root)


def test_a_png_that_somebody_took_is_painted(root: Path) -> None:
    gone = next((root / "out" / "exports" / "semantic").rglob("p003.png"))
    gone.unlink()
    cv2.imwrite(str(root / "in" / "a" / "p000.png"), disc_picture(99))
    run(root)
    assert gone.exists()
    assert_as_if_fresh(root)
