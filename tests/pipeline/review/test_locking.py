"""Corrections become locked rows, and stay through every later run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tifffile
from pictures import disc_picture, write_pictures

from pipeline.engine.run import label
from pipeline.evaluation.evaluate import evaluate
from pipeline.ledger.ledger import open_ledger
from pipeline.ledger.locks import find_conflicts, read_locks, write_locks
from pipeline.masks import codec
from pipeline.review.corrections import CorrectedRegion, Correction
from pipeline.review.locking import import_corrections
from pipeline.storage.storage import Storage
from pipeline.validation.validate import validate
from schemas.config.job import JobConfig

ABOUT = {"by": "Ada", "at": "2026-11-30T12:00:00+00:00", "source": "corrected.json@0123"}


@pytest.fixture
def folder(tmp_path):
    write_pictures(tmp_path / "in", 20)
    return tmp_path


def run(folder, output="out", **changes):
    data = {
        "input": {"uri": str(folder / "in")},
        "output": str(folder / output),
        "model": {"name": "otsu"},
        "task": ["instance"],
        "execution": {"inline": True, "shard_size": 5},
    }
    for key, value in changes.items():
        data[key] = {**data.get(key, {}), **value} if isinstance(value, dict) else value
    return label(JobConfig.parse(data), export=False, report=False)


def ledger_of(folder, output="out"):
    return open_ledger(str(folder / output))


def rows_of(folder, output="out"):
    return {image["file_name"]: (image, rows) for image, rows in ledger_of(folder, output).rows()}


def corrected(ledger, name, x=3, category=None, **more):
    """A picture with one small square."""
    (row,) = [image for image, _ in ledger.rows() if image["file_name"] == name]
    mask = np.zeros((row["height"], row["width"]), np.uint8)
    mask[4:9, x : x + 6] = 1
    thing = next(item.name for item in ledger.categories if item.isthing)
    region = CorrectedRegion(category or thing, codec.encode(mask))
    return Correction(name, row["height"], row["width"], (region,), **more)


def names(folder):
    root = folder / "in"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*"))


def lock(folder, *chosen, output="out", **more):
    ledger = ledger_of(folder, output)
    return import_corrections(ledger, [corrected(ledger, n, **more) for n in chosen], **ABOUT)


def is_locked(rows):
    image, segments = rows
    return (
        image["locked"] is True
        and (image["locked_by"], image["locked_at"]) == ("Ada", ABOUT["at"])
        and image["locked_from"] == "corrected.json@0123"
        and [(s["area"], s["bbox_xywh"], s["model"], s["locked"]) for s in segments]
        == [(30, [3, 4, 6, 5], "review", True)]
    )


def content(folder, output="out"):
    manifest = json.loads((folder / output / "manifest.json").read_bytes())
    return {
        (table, part["name"]): (folder / output / table / f"{part['name']}.parquet").read_bytes()
        for part in manifest["parts"]
        for table in ("images", "annotations")
    }


def test_an_import_publishes_locked_rows_and_leaves_the_others(folder):
    run(folder)
    before, (first, second) = rows_of(folder), names(folder)[3:5]
    result = lock(folder, first, second)
    assert (result.locked, result.conflicts) == ((first, second), ())
    after = rows_of(folder)
    assert [name for name in after if is_locked(after[name])] == [first, second]
    for name in before.keys() - {first, second}:
        assert after[name] == before[name]
    named = {f"{part.name}.parquet" for part in result.ledger.manifest.parts}
    assert {path.name for path in (folder / "out" / "images").iterdir()} == named
    report = validate(str(folder / "out"))
    assert report.ok, report.violations
    again = lock(folder, first)
    assert (again.locked, again.unchanged) == ((), (first,))
    assert again.ledger.manifest.version == result.ledger.manifest.version


def test_names_as_windows_writes_them_are_found_and_a_picture_counts_once(folder):
    run(folder)
    name = next(name for name in names(folder) if "/" in name)
    ledger = ledger_of(folder)
    item = corrected(ledger, name)
    given = [replace(item, file_name=name.replace("/", "\\")), replace(item, file_name=f"./{name}")]
    result = import_corrections(ledger, given, **ABOUT)
    assert (result.locked, result.conflicts) == ((name,), ())


def test_locked_rows_survive_runs_and_other_settings_and_new_names(folder):
    run(folder)
    first, second = names(folder)[3:5]
    lock(folder, first, second)
    locked = rows_of(folder)
    result = run(folder)
    assert result.computed == 0
    assert rows_of(folder)[first] == locked[first]
    assert is_locked(rows_of(folder)[second])
    assert run(folder).new_version is False
    run(folder, refine={"min_island": 40})
    assert is_locked(rows_of(folder)[first])
    (folder / "in" / first).rename(folder / "in" / f"{first}.zz.png")
    run(folder)
    assert is_locked(rows_of(folder)[f"{first}.zz.png"])
    assert validate(str(folder / "out")).ok


def test_the_bytes_do_not_tell_how_it_came_to_them(folder):
    """Locked after a run, before one, and with a run that was killed and went on."""
    run(folder)
    first, second = names(folder)[3], names(folder)[12]
    lock(folder, first, second)
    run(folder)
    shutil.copytree(folder / "out" / "locks", folder / "fresh" / "locks")
    (folder / "fresh" / "job.json").write_bytes((folder / "out" / "job.json").read_bytes())
    run(folder, "fresh")
    assert content(folder, "fresh") == content(folder)
    receipts = sorted((folder / "fresh" / "receipts").iterdir())
    for path in receipts[::2]:
        path.unlink()
    (folder / "fresh" / "manifest.json").unlink()
    run(folder, "fresh")
    assert content(folder, "fresh") == content(folder)


def test_a_second_correction_takes_the_place_of_the_first(folder):
    run(folder)
    first = names(folder)[3]
    lock(folder, first)
    run(folder)
    result = lock(folder, first, x=20)
    assert result.replaced == (first,)
    run(folder)
    _, (segment,) = rows_of(folder)[first]
    assert segment["bbox_xywh"] == [20, 4, 6, 5]
    assert len(list((folder / "out" / "locks").iterdir())) == 2


def test_changed_bytes_are_labelled_by_the_model_and_listed(folder, caplog):
    run(folder)
    first, second = names(folder)[3:5]
    lock(folder, first, second)
    pixels = cv2.imread(str(folder / "in" / first))
    cv2.imwrite(str(folder / "in" / first), 255 - pixels)
    run(folder)
    after = rows_of(folder)
    assert after[first][0]["locked"] is None
    assert is_locked(after[second])
    assert f"a correction of {first} does not hold: its bytes changed since 2026-11" in caplog.text
    (folder / "in" / second).unlink()
    run(folder)
    ledger = ledger_of(folder)
    found = find_conflicts(read_locks(ledger.storage, ledger.uri), ledger)
    assert [item.file_name for item in found] == [first, second]
    assert "not in the dataset any more" in found[1].reason


def test_another_task_does_not_follow_and_is_listed(folder, caplog):
    run(folder)
    first = names(folder)[3]
    lock(folder, first)
    run(folder, task=["semantic"])
    assert rows_of(folder)[first][0]["locked"] is None
    assert "it was corrected for the task instance, not for semantic" in caplog.text


def test_what_cannot_be_taken_is_listed_with_its_reason(folder):
    run(folder)
    ledger = ledger_of(folder)
    first, second = names(folder)[:2]
    good = corrected(ledger, first)
    other_size = Correction(second, good.height + 1, good.width, good.regions)
    empty = codec.encode(np.zeros((good.height, good.width), np.uint8))
    cases = {
        "no picture of this name": Correction("nowhere.png", 5, 5, ()),
        "it was corrected at": other_size,
        "no category 'zebra'": corrected(ledger, second, category="zebra"),
        "has no pixel": Correction(
            first, good.height, good.width, (CorrectedRegion(good.regions[0].category, empty),)
        ),
        "a mask of a turned picture": Correction(
            second, 0, 0, (), problem="a mask of a turned picture"
        ),
        "changed since it was given out": corrected(ledger, second, sha256="0" * 64),
    }
    for reason, item in cases.items():
        result = import_corrections(ledger, [item], **ABOUT)
        assert [reason in conflict.reason for conflict in result.conflicts] == [True], reason
        assert result.ledger.manifest.version == 1
    given = {first: "1" * 64}
    result = import_corrections(ledger, [good], **ABOUT, given=given)
    assert "given out" in result.conflicts[0].reason
    twice = [good, corrected(ledger, first, x=15)]
    result = import_corrections(ledger, twice, **ABOUT)
    assert (result.locked, len(result.conflicts)) == ((first,), 1)


def test_panoptic_corrections_leave_the_rest_to_the_background(folder):
    run(folder, task=["panoptic"])
    first, second = names(folder)[:2]
    lock(folder, first)
    _, segments = rows_of(folder)[first]
    image = rows_of(folder)[first][0]
    assert [item["isthing"] for item in segments] == [True, False]
    assert sum(item["area"] for item in segments) == image["width"] * image["height"]
    ledger = ledger_of(folder)
    item = corrected(ledger, second)
    doubled = Correction(second, item.height, item.width, item.regions * 2)
    result = import_corrections(ledger, [doubled], **ABOUT)
    assert "lies over another, which panoptic forbids" in result.conflicts[0].reason
    assert validate(str(folder / "out")).ok
    run(folder, task=["panoptic"])
    assert rows_of(folder)[first][1] == segments


def test_locked_images_alone_can_be_the_ground_truth(folder):
    run(folder)
    run(folder, "other")
    first, second = names(folder)[3:5]
    with pytest.raises(ValueError, match="has no locked image"):
        evaluate(ground_truth=str(folder / "out"), dataset=str(folder / "other"), locked_only=True)
    lock(folder, first, second)
    result = evaluate(
        ground_truth=str(folder / "out"), dataset=str(folder / "other"), locked_only=True
    )
    assert result["counts"]["images"] == 2
    assert result["counts"]["true_segments"] == 2
    with pytest.raises(ValueError, match="is no dataset of ours"):
        evaluate(ground_truth=str(folder / "in"), dataset=str(folder / "other"), locked_only=True)


def test_two_imports_at_a_time_do_not_lose_one(folder):
    run(folder)
    ledger = ledger_of(folder)
    first, second = names(folder)[:2]
    stale = read_locks(Storage(), ledger.uri)
    lock(folder, first)
    with pytest.raises(ValueError, match="made by somebody else"):
        write_locks(Storage(), ledger.uri, stale.with_locks([]))
    lock(folder, second)
    assert len(read_locks(Storage(), ledger.uri)) == 2


def test_planes_of_one_file_are_locked_each_by_itself(folder):
    shutil.rmtree(folder / "in")
    (folder / "in").mkdir()
    stack = np.stack([disc_picture(seed, size=48)[:, :48, 0] for seed in (1, 2, 3)])
    tifffile.imwrite(folder / "in" / "stack.tif", stack, photometric="minisblack")
    run(folder, images={"each": "page"})
    _, second, _ = rows_of(folder)
    lock(folder, second)
    run(folder, images={"each": "page"})
    after = rows_of(folder)
    assert [image["locked"] for image, _ in after.values()] == [None, True, None]
    assert is_locked(after[second])
    assert [image["plane_index"] for image, _ in after.values()] == [1, 2, 3]
    assert validate(str(folder / "out")).ok


def test_another_page_of_the_file_is_another_picture(folder, caplog):
    shutil.rmtree(folder / "in")  # files without a second page
    (folder / "in").mkdir()
    stack = np.stack([disc_picture(seed, size=48)[:, :48, 0] for seed in (1, 2)])
    tifffile.imwrite(folder / "in" / "stack.tif", stack, photometric="minisblack")
    run(folder, images={"page": 1})
    lock(folder, "stack.tif")
    run(folder, images={"page": 2})
    assert rows_of(folder)["stack.tif"][0]["locked"] is None
    assert "stack.tif does not hold: another plane, page or size" in caplog.text
    run(folder, images={"page": 1})
    assert is_locked(rows_of(folder)["stack.tif"])
