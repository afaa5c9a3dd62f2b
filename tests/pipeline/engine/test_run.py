"""A run from listing to manifest, in one process: what is computed, reused, published."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pyarrow.parquet as pq
import pytest
from otsu_jobs import otsu_job
from pictures import disc_picture, write_pictures
from s3_server import S3Server

from pipeline.engine.run import RunResult, label
from pipeline.errors import ExecutionError, OverBudgetError
from pipeline.history.prune import prune
from pipeline.ledger.ledger import open_ledger
from pipeline.models.checkpoints.locate import WEIGHTS_ROOT
from pipeline.readers import EmptyInputError
from pipeline.storage.storage import Storage
from pipeline.validation.validate import validate
from schemas.config.job import JobConfig
from schemas.manifest import SCHEMA_VERSION

COUNT = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "in", COUNT)
    return tmp_path


def run(folder: Path, output: str = "out", **changes: Any) -> RunResult:
    return label(otsu_job(folder, output, **changes), export=False, report=False)


def published(folder: Path, output: str = "out") -> dict[str, bytes]:
    """Every file that the current manifest names, and the manifest without its version."""
    root = folder / output
    manifest = json.loads((root / "manifest.json").read_bytes())
    files = {
        f"{table}/{part['name']}": (root / table / f"{part['name']}.parquet").read_bytes()
        for part in manifest["parts"]
        for table in ("images", "annotations")
    }
    manifest.pop("version")
    return {**files, "manifest": json.dumps(manifest, sort_keys=True).encode()}


def rows(folder: Path, output: str = "out") -> dict[str, dict[str, Any]]:
    ledger = open_ledger(str(folder / output))
    return {image["file_name"]: {**image, "segments": found} for image, found in ledger.rows()}


def test_a_sample_first_is_work_that_the_whole_takes_over(folder: Path) -> None:
    first = run(folder, input={"sample": 10})
    drawn = rows(folder)
    assert (first.computed, len(drawn)) == (10, 10)
    assert {name[0] for name in drawn} == {"a", "b"}
    again = run(folder, input={"sample": 10})
    assert (again.computed, again.reused, again.new_version) == (0, 0, False)
    whole = run(folder)
    assert (whole.computed, whole.manifest.counts["images"]) == (COUNT - 10, COUNT)
    after = rows(folder)
    assert {name: after[name]["image_id"] for name in drawn} == {
        name: row["image_id"] for name, row in drawn.items()
    }
    with pytest.raises(ValueError, match="limit and sample exclude one another"):
        run(folder, input={"sample": 10, "limit": 10})


def test_every_image_has_one_row_and_counts_add_up(folder: Path) -> None:
    result = run(folder)
    counts = result.manifest.counts
    assert len(rows(folder)) == counts["images"] == result.computed == COUNT
    assert sum(counts[s] for s in ("ok", "empty", "failed", "skipped")) == COUNT
    assert counts["annotations"] == sum(len(r["segments"]) for r in rows(folder).values())
    assert len(result.manifest.parts) > 2


def test_a_second_run_computes_and_publishes_nothing(folder: Path) -> None:
    first, notes = run(folder), (".json", ".prom")
    before = {p: p.stat().st_mtime_ns for p in (folder / "out").rglob("*") if p.suffix not in notes}
    again = run(folder)
    assert (again.computed, again.reused, again.new_version) == (0, 0, False)
    assert again.manifest == first.manifest
    after = {p: p.stat().st_mtime_ns for p in (folder / "out").rglob("*") if p.suffix not in notes}
    assert after == before


def test_a_renamed_file_keeps_its_labels(folder: Path) -> None:
    run(folder)
    old = rows(folder)["a/p004.png"]
    (folder / "in/a/p004.png").rename(folder / "in/b/moved.png")
    result = run(folder)
    assert result.computed == 0
    assert result.reused > 0
    new = rows(folder)["b/moved.png"]
    assert [s["rle"] for s in new["segments"]] == [s["rle"] for s in old["segments"]]
    assert {s["image_id"] for s in new["segments"]} == {new["image_id"]} != {old["image_id"]}
    assert "a/p004.png" not in rows(folder)
    run(folder, "fresh")
    assert published(folder) == published(folder, "fresh")


def test_one_changed_byte_recomputes_one_picture(folder: Path) -> None:
    run(folder)
    changed = disc_picture(7)
    changed[0, 0, 0] ^= 1
    cv2.imwrite(str(folder / "in/b/p007.png"), changed)
    result = run(folder)
    assert result.computed == 1
    assert result.manifest.version == 2
    run(folder, "fresh")
    assert published(folder) == published(folder, "fresh")


def test_a_changed_threshold_recomputes_all(folder: Path) -> None:
    run(folder)
    result = run(folder, model={"threshold": 0.5})
    assert (result.computed, result.reused) == (COUNT, 0)


def test_several_tasks_are_one_dataset_with_the_rows_of_each(folder: Path) -> None:
    result = run(folder, task="panoptic, semantic,instance")
    assert result.manifest.tasks == ("semantic", "instance", "panoptic")
    several = open_ledger(str(folder / "out"))
    assert result.manifest.config["task"] == ["semantic", "instance", "panoptic"]
    assert validate(several.uri).ok
    changed = {"segment_id", "annotation_id", "run"}
    for task in result.manifest.tasks:
        run(folder, task, task=task)
        alone = open_ledger(str(folder / task))
        found, due = (
            [
                {key: value for key, value in row.items() if key not in changed}
                for _, rows in ledger.rows()
                for row in rows
            ]
            for ledger in (several.view(task), alone)
        )
        assert found == due
        assert alone.manifest.counts == several.view(task).manifest.counts
    again = run(folder, task=["panoptic", "instance", "semantic"])
    assert (again.computed, again.reused, again.new_version) == (0, 0, False)


def test_other_tasks_are_computed_anew(folder: Path) -> None:
    run(folder, task="panoptic")
    assert run(folder, task="semantic,panoptic").computed == COUNT
    assert run(folder, task="panoptic").computed == 0  # the old parts still stand


def test_a_touched_file_is_read_again_but_not_labelled_again(folder: Path) -> None:
    run(folder)
    os.utime(folder / "in/a/p000.png", ns=(1, 1))
    result = run(folder)
    assert result.computed == 0
    assert not result.new_version


def test_an_image_gone_from_the_input_is_gone_from_the_next_version(folder: Path) -> None:
    run(folder)
    (folder / "in/a/p002.png").unlink()
    result = run(folder)
    assert result.computed == 0
    assert result.manifest.counts["images"] == COUNT - 1
    assert "a/p002.png" not in rows(folder)
    first = json.loads((folder / "out/versions/000001.json").read_bytes())
    assert first["counts"]["images"] == COUNT  # the old version can still be read


def test_the_input_may_move(folder: Path) -> None:
    run(folder)
    (folder / "in").rename(folder / "elsewhere")
    result = run(folder, input={"uri": str(folder / "elsewhere")})
    assert result.computed == 0


def test_a_renamed_model_is_not_computed_again_and_its_rows_say_the_new_name(folder: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(WEIGHTS_ROOT / "otsu", folder / name)
    run(folder, model={"name": str(folder / "one")})
    result = run(folder, model={"name": str(folder / "two")})
    assert (result.computed, result.reused) == (0, COUNT)
    names = {s["model"] for row in rows(folder).values() for s in row["segments"]}
    assert names == {"two"}
    run(folder, "fresh", model={"name": str(folder / "two")})
    assert published(folder) == published(folder, "fresh")


def test_what_changes_no_row_publishes_no_version(folder: Path) -> None:
    run(folder)
    again = run(folder, max_failures="3", report={"max_images": 5})
    assert (again.computed, again.new_version) == (0, False)


def test_a_report_of_an_older_version_is_drawn_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after publishing, before the report: the next run changes nothing else."""
    data = {
        "input": {"uri": str(folder / "in")},
        "output": str(folder / "out"),
        "model": {"name": "otsu"},
        "execution": {"inline": True},
    }
    label(JobConfig.parse(data), export=False)
    page = folder / "out/report/index.html"
    before = page.read_bytes()
    (folder / "in/a/p000.png").unlink()

    def killed(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.engine.run.write_report", killed)
        with pytest.raises(KeyboardInterrupt):
            label(JobConfig.parse(data), export=False)
    assert page.read_bytes() == before
    again = label(JobConfig.parse(data), export=False)
    assert (again.computed, again.new_version) == (0, False)
    assert page.read_bytes() != before
    drawn = page.stat().st_mtime_ns
    label(JobConfig.parse(data), export=False)
    assert page.stat().st_mtime_ns == drawn


def test_shard_size_and_read_ahead_change_no_label(folder: Path) -> None:
    run(folder)
    run(folder, "other", execution={"shard_size": 3, "prefetch": 1})
    one, two = rows(folder), rows(folder, "other")
    assert one == two


def test_bad_files_become_failed_rows_and_nothing_else(folder: Path) -> None:
    good = (folder / "in/a/p000.png").read_bytes()
    (folder / "in/empty.jpg").write_bytes(b"")
    (folder / "in/text.jpg").write_bytes(b"<!DOCTYPE html><p>404")
    (folder / "in/cut.png").write_bytes(good[: len(good) // 2])
    (folder / "in/notes.txt").write_bytes(b"not listed")
    result = run(folder)
    failed = {n: r["error_code"] for n, r in rows(folder).items() if r["status"] == "failed"}
    assert failed == {
        "empty.jpg": "empty_file",
        "text.jpg": "not_an_image",
        "cut.png": "truncated",
    }
    assert result.manifest.error_counts == {"empty_file": 1, "not_an_image": 1, "truncated": 1}
    assert [(i["suffix"], i["files"]) for i in result.manifest.left_out] == [(".txt", 1)]
    assert all(r["error_message"] for r in rows(folder).values() if r["error_code"])


@pytest.mark.parametrize(
    ("allowed", "over"), [("2", False), ("1", True), ("5%", False), ("1%", True), ("any", False)]
)
def test_the_failure_budget(folder: Path, allowed: str, over: bool) -> None:
    for name in ("x.jpg", "y.jpg"):
        (folder / "in" / name).write_bytes(b"")
    if not over:
        assert run(folder, max_failures=allowed).new_version
        return
    with pytest.raises(OverBudgetError, match=r"2 images failed, \d allowed"):
        run(folder, max_failures=allowed)
    assert not (folder / "out/manifest.json").exists()


def test_a_run_in_which_everything_failed_is_over_any_budget(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.jpg").write_bytes(b"")
    for budget in ("any", "auto", "0", "50%"):
        with pytest.raises(OverBudgetError, match="1 images failed, 0 allowed"):
            run(tmp_path, max_failures=budget)


def test_only_failures_that_may_pass_are_tried_again(folder: Path) -> None:
    (folder / "in/empty.jpg").write_bytes(b"")
    run(folder)
    data = {
        "input": {"uri": str(folder / "in")},
        "output": str(folder / "out"),
        "model": {"name": "otsu"},
        "execution": {"inline": True, "shard_size": 8},
    }
    again = label(JobConfig.parse(data), export=False, report=False, retry_failed=True)
    assert again.computed == 0  # an empty file stays empty


def test_lost_receipts_and_parts_are_made_again(folder: Path) -> None:
    run(folder)
    whole = published(folder)
    for path in sorted((folder / "out/receipts").iterdir())[::2]:
        path.unlink()
    sorted((folder / "out/images").iterdir())[0].unlink()
    sorted((folder / "out/receipts").iterdir())[0].write_text("{")
    assert not run(folder).new_version
    assert published(folder) == whole


def test_prune_removes_what_no_version_names(folder: Path) -> None:
    run(folder)
    run(folder, model={"threshold": 0.5})
    assert prune(str(folder / "out"), Storage()) == []  # version 1 still names its parts
    (folder / "out/versions/000001.json").unlink()
    assert len(prune(str(folder / "out"), Storage())) > 0
    names = {
        part["name"] for part in json.loads((folder / "out/manifest.json").read_bytes())["parts"]
    }
    assert {p.stem for p in (folder / "out/images").iterdir()} == names
    assert run(folder, model={"threshold": 0.5}).computed == 0


def test_the_output_may_lie_inside_the_input(folder: Path) -> None:
    shutil.move(str(folder / "in"), str(folder / "in2"))
    data = {
        "input": {"uri": str(folder / "in2")},
        "output": str(folder / "in2/out"),
        "model": {"name": "otsu"},
        "execution": {"inline": True},
    }
    first = label(JobConfig.parse(data), report=False)
    again = label(JobConfig.parse(data), report=False)
    assert first.manifest.counts["images"] == again.manifest.counts["images"] == COUNT


def test_parts_are_plain_parquet_with_pycocotools_rle(folder: Path) -> None:
    from pycocotools import mask as coco

    run(folder)
    for path in (folder / "out/annotations").iterdir():
        for row in pq.read_table(path).to_pylist():
            assert int(coco.area(row["rle"])) == row["area"]
            assert coco.toBbox(row["rle"]).tolist() == row["bbox_xywh"]


def _file(folder: Path) -> None:
    (folder / "out").write_bytes(b"x")


def _foreign(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out/thesis.doc").write_bytes(b"x")


def _settings_of_others(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out/job.json").write_text('{"model": "T"}')


def _newer(folder: Path) -> None:
    run(folder)
    path = folder / "out/manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))


@pytest.mark.parametrize(
    ("prepare", "changes", "message"),
    [
        (None, {"model": {"name": "otsuu"}}, "did you mean 'otsu'"),
        (None, {"input": {"uri": "/no/such/folder"}}, "/no/such/folder"),
        (_file, {}, "is a file, not a folder"),
        (_foreign, {}, r"no dataset of ours and not empty \(it holds thesis.doc\)"),
        (_settings_of_others, {}, "no dataset of ours and not empty"),
        (_newer, {}, f"schema version 99, this program knows up to {SCHEMA_VERSION}"),
        (None, {"export": {"formats": ["coco-instance"]}}, "did you mean 'coco-instances'"),
    ],
)
def test_bad_usage_is_one_clear_line_before_the_first_image(
    folder: Path, prepare: Callable[[Path], None] | None, changes: dict[str, Any], message: str
) -> None:
    if prepare:
        prepare(folder)
    with pytest.raises((ValueError, OSError), match=message) as caught:
        run(folder, **changes)
    assert "\n" not in str(caught.value)


def test_an_empty_input_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/readme.md").write_text("x")
    with pytest.raises(EmptyInputError, match=r"\.jpg"):
        run(tmp_path)


def test_from_s3_to_s3_equals_local(folder: Path, s3_server: S3Server) -> None:
    run(folder)
    bucket = s3_server.new_bucket()
    storage = Storage(s3_server.config)
    for path in sorted((folder / "in").rglob("*.png")):
        storage.write(f"{bucket}/in/{path.relative_to(folder / 'in')}", path.read_bytes())
    data = {
        "input": {"uri": f"{bucket}/in"},
        "output": f"{bucket}/out",
        "model": {"name": "otsu"},
        "execution": {"inline": True, "shard_size": 8},
        "storage": s3_server.config.model_dump(),
    }
    first = label(JobConfig.parse(data))
    again = label(JobConfig.parse(data))
    assert first.computed == COUNT
    assert (again.computed, again.new_version) == (0, False)
    ledger = open_ledger(f"{bucket}/out", storage)
    assert ledger.manifest.parts == open_ledger(str(folder / "out")).manifest.parts
    pointer = json.loads(storage.read(f"{bucket}/out/exports/current.json"))
    assert first.exports == f"{bucket}/out/exports/{pointer['prefix']}"
    for name in ("coco/instances.json", "coco/panoptic.json", "exports.json"):
        assert storage.exists(f"{first.exports}/{name}")
    assert storage.exists(first.report)
    assert again.report == first.report
    assert not again.report_written
    secrets = (s3_server.config.secret.encode(), b'"secret"')
    for entry in storage.list(f"{bucket}/out"):
        if entry.path.endswith(".json"):
            assert not any(secret in storage.read(entry.uri) for secret in secrets)


def test_a_full_disk_stops_the_run_and_it_can_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = os.fsync, [0]

    def full(descriptor: int) -> None:
        written[0] += 1
        if written[0] > 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ExecutionError, match=r"(?i)no space left") as caught:
            run(folder)
    assert "\n" not in str(caught.value)
    assert 0 < run(folder).computed < COUNT
    run(folder, "fresh")
    assert published(folder) == published(folder, "fresh")


def test_wrong_credentials_are_one_line_without_the_secret(
    folder: Path, s3_server: S3Server
) -> None:
    bucket = s3_server.new_bucket()
    wrong = {**s3_server.config.model_dump(), "key": "nobody", "secret": "hush-hush"}
    with pytest.raises(OSError, match="s3://") as caught:
        run(folder, input={"uri": f"{bucket}/in"}, storage=wrong)
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)
