"""Nights with `history.max_removed`: what changed is written, all else stays byte for byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from pictures import disc_picture, write_pictures

from pipeline.engine import execute
from pipeline.engine.estimate import estimate
from pipeline.engine.run import RunResult, label
from pipeline.history.prune import prune
from pipeline.history.versions import roll_back
from pipeline.ledger.ledger import open_ledger
from pipeline.measuring.measure import measure
from pipeline.storage.storage import Storage
from pipeline.validation.validate import validate
from schemas.config.job import JobConfig

COUNT = 48


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "in", COUNT)
    run(tmp_path)
    return tmp_path


def job(folder: Path, output: str = "out", **changes: Any) -> JobConfig:
    data: dict[str, Any] = {
        "input": {"uri": str(folder / "in")},
        "output": str(folder / output),
        "model": {"name": "otsu"},
        "task": ["semantic", "instance"],
        "execution": {"inline": True, "shard_size": 12},
        "history": {"max_removed": 0.3},
    }
    for key, value in changes.items():
        data[key] = {**data.get(key, {}), **value} if isinstance(value, dict) else value
    return JobConfig.parse(data)


def run(folder: Path, output: str = "out", *, exports: bool = False, **changes: Any) -> RunResult:
    return label(job(folder, output, **changes), export=exports, report=False)


def pictures(folder: Path) -> list[Path]:
    return sorted((folder / "in").rglob("*.png"))


def change(folder: Path, *numbers: int, seed: int = 900) -> None:
    for number in numbers:
        cv2.imwrite(str(pictures(folder)[number]), disc_picture(seed + number))


def parts(folder: Path, output: str = "out") -> dict[str, dict[str, Any]]:
    manifest = json.loads((folder / output / "manifest.json").read_bytes())
    return {part["name"]: part for part in manifest["parts"]}


def files(folder: Path, output: str = "out") -> dict[str, bytes]:
    """Everything that is published, but for the number of the version."""
    root = folder / output
    found = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for name in ("images", "annotations", "removed")
        for path in (root / name).glob("*")
    }
    manifest = json.loads((root / "manifest.json").read_bytes())
    return {**found, "manifest": json.dumps({**manifest, "version": 0, "input": ""}).encode()}


def rows(folder: Path, output: str = "out") -> dict[str, Any]:
    """File name → rows, whatever part they are in."""
    ledger = open_ledger(str(folder / output))
    found = [(image["file_name"], (image, own)) for image, own in ledger.rows()]
    assert len(found) == len(dict(found)) == ledger.manifest.counts["images"]
    return dict(found)


def assert_as_if_fresh(folder: Path, **changes: Any) -> None:
    """The same rows and counts as labelling from nothing gives; and valid."""
    shutil.rmtree(folder / "fresh", ignore_errors=True)
    run(folder, "fresh", **changes)
    assert rows(folder) == rows(folder, "fresh")
    now, fresh = (open_ledger(str(folder / name)).manifest for name in ("out", "fresh"))
    for key in ("counts", "category_counts", "error_counts"):
        assert getattr(now, key) == getattr(fresh, key)
    report = validate(str(folder / "out"))
    assert not report.violations, report.violations


def test_what_changed_is_written_and_nothing_else(folder: Path) -> None:
    before, whole = parts(folder), files(folder)
    change(folder, 3, 20, 41)
    assert run(folder).computed == 3
    after = parts(folder)
    assert before.keys() < after.keys()
    (new,) = after.keys() - before.keys()
    assert after[new]["images"] == 3
    assert sum(part.get("removed", 0) for part in after.values()) == 3
    for name, data in files(folder).items():
        if name in whole and name != "manifest":
            assert data == whole[name]
    assert_as_if_fresh(folder)


def test_nothing_changed_publishes_nothing(folder: Path) -> None:
    change(folder, 3)
    run(folder)
    before = files(folder)
    result = run(folder)
    assert (result.new_version, result.computed, result.reused) == (False, 0, 0)
    assert files(folder) == before


def test_images_that_come_and_go(folder: Path) -> None:
    pictures(folder)[7].unlink()
    pictures(folder)[30].unlink()
    assert run(folder).computed == 0
    cv2.imwrite(str(folder / "in" / "a" / "new.png"), disc_picture(77))
    result = run(folder)
    assert result.computed == 1
    assert result.since is not None
    assert (result.since.counts["added"], result.since.counts["unchanged"]) == (1, COUNT - 2)
    assert_as_if_fresh(folder)


def test_nights_of_one_picture_fill_one_part(folder: Path) -> None:
    for night in range(5):
        cv2.imwrite(str(folder / "in" / "a" / f"x{night}.png"), disc_picture(70 + night))
        assert run(folder).computed == 1
    added = [part for name, part in parts(folder).items() if name.startswith("n")]
    assert [part["images"] for part in added] == [5]
    assert_as_if_fresh(folder)


def test_a_part_that_lost_too_much_is_written_anew(folder: Path) -> None:
    before = parts(folder)
    first = next(iter(before))
    held = pq.read_table(folder / "out" / "images" / f"{first}.parquet")["file_name"].to_pylist()
    for name in held[: len(held) // 2]:
        cv2.imwrite(str(folder / "in" / name), disc_picture(500 + len(name)))
    result = run(folder)
    assert result.computed == len(held) // 2
    assert result.reused == len(held) - len(held) // 2
    assert first not in parts(folder)
    assert not (folder / "out" / "removed").exists()
    assert_as_if_fresh(folder)


def test_much_at_once_is_cut_anew(folder: Path) -> None:
    change(folder, *range(0, COUNT, 2), *range(1, COUNT, 8))
    run(folder)
    run(folder, "fresh")
    now, fresh = files(folder), files(folder, "fresh")
    assert now == fresh


def test_parts_are_in_the_order_of_their_first_images(folder: Path) -> None:
    change(folder, 0, 1)
    run(folder)
    tables = list(open_ledger(str(folder / "out")).images(["file_name"]))
    first = [table["file_name"][0].as_py() for table in tables]
    assert first == sorted(first)


def test_copies_go_with_their_parents(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 24)
    augment = {"copies": 1, "steps": [{"step": "flip"}]}
    run(tmp_path, augment=augment)
    change(tmp_path, 3, 15)
    assert run(tmp_path, augment=augment).computed == 2
    assert sum(part.get("removed", 0) for part in parts(tmp_path).values()) == 4
    assert_as_if_fresh(tmp_path, augment=augment)


def test_another_config_begins_anew(folder: Path) -> None:
    change(folder, 3)
    run(folder)
    run(folder, model={"min_area": 30})
    run(folder, "fresh", model={"min_area": 30})
    assert files(folder) == files(folder, "fresh")


def test_the_plain_form_comes_back_with_the_key_left_out(folder: Path) -> None:
    change(folder, 3, 20)
    run(folder)
    assert run(folder, history={"max_removed": 0}).computed == 0
    run(folder, "fresh")
    assert files(folder) == files(folder, "fresh")


def test_a_failed_picture_is_no_work_for_every_night(folder: Path) -> None:
    pictures(folder)[5].write_bytes(b"no picture")
    assert run(folder).failed == 1
    result = run(folder)
    assert (result.new_version, result.computed, result.reused) == (False, 0, 0)
    assert_as_if_fresh(folder)


def test_a_killed_night_ends_in_the_same_bytes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder / "out", folder / "other")
    change(folder, *range(0, COUNT, 4))
    real = execute._ShardCaller.run
    done: list[str] = []

    def killed(self: Any, *work: Any) -> Any:
        if done:
            raise KeyboardInterrupt
        done.append("")
        return real(self, *work)

    with monkeypatch.context() as patch:
        patch.setattr(execute._ShardCaller, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            run(folder, execution={"shard_size": 4})
    run(folder, execution={"shard_size": 4})
    run(folder, "other", execution={"shard_size": 4})
    now, other = files(folder), files(folder, "other")
    assert now.keys() == other.keys()
    for name in now.keys() - {"manifest"}:
        assert now[name] == other[name]
    assert parts(folder) == parts(folder, "other")


def test_a_lost_index_or_part_is_made_up_for(folder: Path) -> None:
    change(folder, 3)
    run(folder)
    shutil.rmtree(folder / "out" / "index")
    change(folder, 9)
    assert run(folder).computed == 1
    assert_as_if_fresh(folder)
    victim = next(name for name in parts(folder) if not name.startswith("n"))
    (folder / "out" / "images" / f"{victim}.parquet").unlink()
    run(folder)
    assert_as_if_fresh(folder)


def test_going_back_shows_the_rows_of_then(folder: Path) -> None:
    change(folder, 3, 20)
    run(folder)
    second = rows(folder)
    change(folder, 3, 30, seed=300)
    run(folder)
    assert rows(folder) != second
    roll_back(str(folder / "out"), 2, Storage())
    assert rows(folder) == second
    assert len(list((folder / "out" / "removed").iterdir())) == 1
    run(folder)
    assert_as_if_fresh(folder)


def test_prune_frees_what_no_kept_version_names(folder: Path) -> None:
    for night in range(3):
        change(folder, night, night + 20, seed=100 * night)
        run(folder, history={"keep": 1})
    out = folder / "out"
    assert {path.stem for path in (out / "images").iterdir()} == parts(folder).keys()
    for name in ("images", "annotations", "removed"):
        assert not list((out / "versions" / name).glob("*"))
    assert not prune(str(out), Storage())
    assert_as_if_fresh(folder)


def test_exports_are_those_of_the_rows(folder: Path) -> None:
    run(folder, exports=True)
    change(folder, 3, 20)
    run(folder, exports=True)
    assert_as_if_fresh(folder)
    run(folder, "fresh", exports=True)
    own, fresh = (folder / name / "exports" for name in ("out", "fresh"))
    for path in fresh.rglob("*.png"):
        assert (own / path.relative_to(fresh)).read_bytes() == path.read_bytes()
    one, two = (
        json.loads((root / "coco" / "instances.json").read_bytes()) for root in (own, fresh)
    )
    for key in ("images", "annotations"):
        assert sorted(one[key], key=lambda item: item["id"]) == sorted(
            two[key], key=lambda item: item["id"]
        )


def test_an_estimate_knows_the_night(folder: Path) -> None:
    change(folder, 3, 20)
    pictures(folder)[40].unlink()
    found = estimate(job(folder))
    counts = found.counts
    assert (counts["unchanged"], counts["gone"]) == (COUNT - 3, 1)
    assert counts["changed"] + counts["to_read"] == 2


def test_what_is_documented_reads_the_current_rows(folder: Path) -> None:
    change(folder, 3, 20)
    run(folder)
    out = folder / "out"
    card = (out / "README.md").read_text()
    assert "ANTI JOIN 'removed/*.parquet'" in card
    (table,) = (out / "removed").iterdir()
    gone = pq.read_table(table).to_pylist()
    seen = []
    for path in sorted((out / "images").iterdir()):
        mine = {row["image_id"] for row in gone if row["part"] == path.stem}
        seen += [
            row["file_name"]
            for row in pq.read_table(path).to_pylist()
            if row["image_id"] not in mine
        ]
    assert sorted(seen) == sorted(rows(folder))
    assert np.unique(seen).size == COUNT


def test_measurements_are_of_the_current_rows(folder: Path) -> None:
    change(folder, 3, 20)
    run(folder)
    run(folder, "fresh")
    found = []
    for name in ("out", "fresh"):
        table = folder / f"{name}.parquet"
        measure(dataset=str(folder / name), output=str(table), intensity=False, save=False)
        rows_of = pq.read_table(table, columns=["annotation_id", "area"]).to_pylist()
        found.append(sorted(rows_of, key=lambda row: row["annotation_id"]))
    assert found[0] == found[1]
