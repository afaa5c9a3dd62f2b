"""The plan: everything that can be wrong is said before the first image is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pictures import write_pictures

from pipeline.engine.plan import Plan, Works, make_plan
from pipeline.engine.progress import RunProgress
from pipeline.history.standing import standing_manifest
from pipeline.ledger.lease import Lease
from pipeline.ledger.receipts import receipt_uri, write_receipt
from pipeline.readers import EmptyInputError
from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri
from schemas.config.job import JobConfig
from schemas.manifest import Part, ShardReceipt

COUNT = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "in", COUNT)
    return tmp_path


def plan(folder: Path, *, retry_failed: bool = False, **changes: Any) -> Plan:
    data: dict[str, Any] = {
        "input": {"uri": str(folder / "in")},
        "output": str(folder / "out"),
        "model": {"name": "otsu"},
        "execution": {"shard_size": 4},
    }
    for key, value in changes.items():
        data[key] = {**data.get(key, {}), **value} if isinstance(value, dict) else value
    job = JobConfig.parse(data)
    with Lease(Storage(), absolute_uri(job.output)) as lease:
        return make_plan(job, RunProgress(), retry_failed=retry_failed, lease=lease)


def finish(plan: Plan, at: int, **errors: int) -> Path:
    """Pretends that a shard is done: its receipt and two files, returns the images file."""
    shard = plan.shards[at]
    part = Part(f"{shard.id}-x", len(shard), 0, {}, errors, {}, "", "", 2)
    receipt = ShardReceipt(shard.id, shard.token, plan.spec.run, part, len(shard), 0, 0.0)
    write_receipt(plan.storage, plan.spec.dataset, receipt)
    for table in ("annotations", "images"):
        path = Path(plan.spec.dataset, table, f"{part.name}.parquet")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    return path


def test_a_new_job(folder: Path) -> None:
    made = plan(folder)
    assert sum(len(shard) for shard in made.shards) == len(made.listing) == COUNT
    assert made.receipts == {}
    assert (made.spec.tasks, made.spec.device) == (("panoptic",), "cpu")
    assert made.config.input.uri == str(folder / "in")


def test_uris_become_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    made = plan(folder, input={"uri": "in"}, output="out")
    assert made.spec.dataset == made.config.output == str(folder / "out")
    assert made.config.input.uri == str(folder / "in")
    assert made.shards == plan(folder).shards


def test_limit_takes_the_first_images(folder: Path) -> None:
    made = plan(folder, input={"limit": 5})
    names = [r.file_name for shard in made.shards for r in made.listing.records(shard)]
    every = [
        r.file_name for shard in plan(folder).shards for r in plan(folder).listing.records(shard)
    ]
    assert names == every[:5]
    assert len(plan(folder, input={"limit": 999}).listing) == COUNT


def test_the_output_inside_the_input_is_no_input(folder: Path) -> None:
    inner = folder / "in" / "out"
    plan(folder, output=str(inner))
    (inner / "exports").mkdir(parents=True)
    write_pictures(inner / "exports", 2)
    assert len(plan(folder, output=str(inner)).listing) == COUNT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"name": "otsuu"}}, "did you mean 'otsu'"),
        ({"model": {"name": "otsu", "tta": {"scales": [1, 2]}}}, "family 'otsu' look at a .* once"),
        ({"input": {"uri": "/no/such/place"}}, "/no/such/place"),
        ({"export": {"formats": ["coco-instance"]}}, "did you mean 'coco-instances'"),
        ({"export": {"formats": ["coco-panoptic"]}, "task": "instance"}, "coco-panoptic needs"),
        ({"refine": {"categories": {"objekt": {}}}}, "no category 'objekt', only object; did you"),
        ({"refine": {"categories": {"background": {}}}}, "'background' is the background"),
        ({"output": "/proc/nothing/here"}, "cannot write: .*/proc/nothing/here"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_output(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, StorageError), match=message) as caught:
        plan(folder, **changes)
    assert "\n" not in str(caught.value)
    assert not (folder / "out" / "job.json").exists()


def test_an_input_without_images_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(EmptyInputError, match=str(tmp_path / "in")):
        plan(tmp_path)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    with pytest.raises(EmptyInputError):
        plan(tmp_path)


def test_a_task_that_the_model_cannot_do_names_those_it_can(folder: Path) -> None:
    checkpoint = folder / "model"
    checkpoint.mkdir()
    config = {
        "format": "maskmill",
        "family": "otsu",
        "tasks": ["semantic"],
        "categories": [{"id": 1, "name": "x", "isthing": False, "color": "#000000"}],
    }
    (checkpoint / "config.json").write_text(json.dumps(config))
    model = {"name": str(checkpoint)}
    assert plan(folder, model=model).spec.tasks == ("semantic",)
    with pytest.raises(ValueError, match=r"'model' cannot do 'instance'; it can do semantic$"):
        plan(folder, model=model, task="instance")


def test_a_folder_of_something_else_is_left_alone(folder: Path) -> None:
    (folder / "out").mkdir()
    plan(folder)  # an empty one is fine
    (folder / "other").mkdir()
    (folder / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"not empty \(it holds thesis\.txt\)"):
        plan(folder, output=str(folder / "other"))
    assert [p.name for p in (folder / "other").iterdir()] == ["thesis.txt"]
    with pytest.raises(ValueError, match="is a file, not a folder"):
        plan(folder, output=str(folder / "other" / "thesis.txt"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a maskmill manifest"),
        ("", "not a maskmill manifest"),
        ('{"schema_version": 99}', "schema version 99"),
    ],
)
def test_a_manifest_that_is_not_ours_is_named(folder: Path, text: str, message: str) -> None:
    path = folder / "out" / "manifest.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        plan(folder)
    assert str(caught.value).startswith(f"{path}: ")
    assert path.read_text() == text


def test_a_job_that_was_killed_before_its_first_shard_goes_on(folder: Path) -> None:
    plan(folder)
    assert standing_manifest(Storage(), str(folder / "out")) is None
    assert plan(folder).receipts == {}


def test_the_marker_holds_no_secret(folder: Path) -> None:
    plan(folder, storage={"key": "AK71", "secret": "S71", "region": "here"})
    text = (folder / "out" / "job.json").read_text()
    assert "71" not in json.dumps(json.loads(text)["storage"])
    assert json.loads(text)["storage"]["region"] == "here"


def test_finished_shards_are_found_again(folder: Path) -> None:
    first = plan(folder)
    finish(first, 0)
    finish(first, 1)
    assert set(plan(folder).receipts) == {first.shards[0].id, first.shards[1].id}
    assert plan(folder, execution={"workers": 9, "inline": True}).receipts  # only how, not what
    assert plan(folder, model={"threshold": 0.3}).receipts == {}


@pytest.mark.parametrize("table", ["images", "annotations"])
def test_a_shard_whose_file_is_gone_is_done_again(folder: Path, table: str) -> None:
    first = plan(folder)
    finish(first, 0)
    name = finish(first, 1).name
    (folder / "out" / table / name).unlink()
    assert set(plan(folder).receipts) == {first.shards[0].id}


@pytest.mark.parametrize("table", ["images", "annotations"])
def test_a_part_that_was_cut_short_is_named_removed_and_done_again(
    folder: Path, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = plan(folder)
    name = finish(first, 1).name
    (folder / "out" / table / name).write_bytes(b"")
    assert plan(folder).receipts == {}
    assert f"part {name.removesuffix('.parquet')} has 1 bytes, not 2" in caplog.text
    assert not list((folder / "out").glob("[ia]*/*.parquet"))


@pytest.mark.parametrize("text", ["", "{", "{}", "null"])
def test_a_shard_whose_receipt_is_damaged_is_done_again(folder: Path, text: str) -> None:
    first = plan(folder)
    finish(first, 0)
    shard = first.shards[0]
    Path(receipt_uri(str(folder / "out"), shard.id, shard.token)).write_text(text)
    assert plan(folder).receipts == {}


def test_a_picture_that_changed_does_its_shard_again(folder: Path) -> None:
    first = plan(folder)
    for at in range(len(first.shards)):
        finish(first, at)
    assert len(plan(folder).receipts) == len(first.shards)
    last = first.listing.records(first.shards[-1])[-1]
    Path(last.uri).write_bytes(Path(last.uri).read_bytes() + b"\0")
    assert set(plan(folder).receipts) == {shard.id for shard in first.shards[:-1]}


def test_retry_failed_drops_shards_with_failures_that_may_pass(folder: Path) -> None:
    first = plan(folder)
    finish(first, 0, read_error=1)
    finish(first, 1, truncated=3)
    assert len(plan(folder).receipts) == 2
    assert set(plan(folder, retry_failed=True).receipts) == {first.shards[1].id}


def test_works_are_the_shards_with_their_records(folder: Path) -> None:
    made = plan(folder)
    works = Works(made.listing, made.shards)
    assert len(works) == len(made.shards)
    assert [work.shard for work in works] == [shard.id for shard in made.shards]
    names = [r.file_name for work in works for r in work.records]
    assert len(set(names)) == COUNT
    assert all(r.image_id >= 1 for work in works for r in work.records)
    assert works[0].token == made.shards[0].token
    assert [work.shard for work in works[1:]] == [shard.id for shard in made.shards[1:]]
    with pytest.raises(IndexError):
        works[len(works)]
