"""A shard in one process: one row an image whatever the model does, and the same batches."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recording_model import (
    BROKEN,
    RecordingSegmenter,
    answer_all,
    png,
    shard_work,
    whole_picture,
    worker_spec,
)

from pipeline.engine.devices.watch import DeviceLostError
from pipeline.engine.prepare import ShardWork, WorkerSpec
from pipeline.engine.worker import ShardWorker
from pipeline.errors import ModelLoadError
from pipeline.ledger import parts
from pipeline.ledger.parts import read_part, rows_by_image
from pipeline.ledger.receipts import read_receipt
from pipeline.ledger.reuse import ReuseIndex
from pipeline.ledger.row_index import RowIndex, Wanted, read_parts
from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from schemas.config.job import JobConfig
from schemas.manifest import ShardReceipt
from schemas.records import ErrorCode, Failure, Sample, Segmentation, Task, annotation_id

Rows = dict[str, dict[str, Any]]


def label(
    spec: WorkerSpec, work: ShardWork, index: ReuseIndex | None = None
) -> tuple[ShardReceipt, Rows]:
    """Runs a shard and reads it back: file name → image row with its `segments`."""
    worker = ShardWorker(spec, index) if index else ShardWorker(spec)
    records = [r for r in work.records if r.file_name not in work.poison]
    receipt = worker.run(work, map(worker.preparer.prepare, records))
    worker.close()
    images = read_part(Storage(), spec.dataset, "images", receipt.part.name).to_pylist()
    found = rows_by_image(read_part(Storage(), spec.dataset, "annotations", receipt.part.name))
    return receipt, {
        r["file_name"]: {**r, "segments": found.get(r["image_id"], [])} for r in images
    }


def index_of(spec: WorkerSpec, *receipts: ShardReceipt) -> ReuseIndex:
    names = [receipt.part.name for receipt in receipts]
    return RowIndex(read_parts(Storage(), spec.dataset, dict.fromkeys(names, Wanted))).labels()


NAMES = [f"{i:02d}.png" for i in range(10)]
FILES = {name: png(seed) for seed, name in enumerate(NAMES)}


def only(bad: str, misbehave: Callable[[], Any]) -> Callable[[Sequence[Sample]], Any]:
    """Answers well, but for batches that hold `bad`."""

    def answer(batch: Sequence[Sample]) -> Any:
        if bad in [sample.record.file_name for sample in batch]:
            return misbehave()
        return answer_all(batch)

    return answer


def test_rows_stand_in_input_order_with_their_origin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, log = worker_spec(monkeypatch, tmp_path, FILES)
    receipt, rows = label(spec, shard_work(NAMES, first_id=5))
    assert list(rows) == NAMES
    assert [row["image_id"] for row in rows.values()] == list(range(5, 15))
    (segment,) = rows["03.png"]["segments"]
    assert {key: segment[key] for key in ("model", "model_revision", "run", "task")} == {
        "model": "recording",
        "model_revision": "r1",
        "run": "run",
        "task": "panoptic",
    }
    assert segment["annotation_id"] == annotation_id(8, 1)
    assert (receipt.computed, receipt.reused) == (10, 0)
    assert (log[0], log[-1]) == ("load cpu", "close")


def test_the_receipt_is_kept_and_names_its_part(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, FILES)
    receipt, _ = label(spec, shard_work(NAMES))
    path = tmp_path / "receipts" / "00000001-token.json"
    assert read_receipt(Storage(), str(path)) == receipt
    assert json.loads(path.read_bytes())["part"]["images"] == 10


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10, 100])
def test_batches_are_cut_by_position_and_are_the_same_each_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, batch_size: int
) -> None:
    logs = []
    for output in ("one", "two"):
        spec, log = worker_spec(monkeypatch, tmp_path / output, FILES, batch_size=batch_size)
        label(spec, shard_work(NAMES))
        logs.append(log[1:-1])
    cut = [NAMES[i : i + batch_size] for i in range(0, len(NAMES), batch_size)]
    assert logs == [cut, cut]


def test_a_picture_that_fails_keeps_its_place_in_the_window(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = {**FILES, "01.png": BROKEN, "02.png": BROKEN}
    spec, log = worker_spec(monkeypatch, tmp_path, files, batch_size=4)
    _, rows = label(spec, shard_work(NAMES))
    assert log[1:-1] == [["00.png", "03.png"], NAMES[4:8], NAMES[8:]]
    assert rows["01.png"]["error_code"] == "not_an_image"


def test_a_shard_of_failures_asks_no_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = [f"{i:04d}" for i in range(600)]
    spec, log = worker_spec(monkeypatch, tmp_path, dict.fromkeys(names, b""))
    receipt, _ = label(spec, shard_work(names))
    assert receipt.part.errors == {"empty_file": 600}
    assert log == ["load cpu", "close"]


def test_an_empty_shard_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, {})
    receipt, rows = label(spec, shard_work([]))
    assert (receipt.part.images, receipt.part.annotations, rows) == (0, 0, {})


def _raises() -> Any:
    raise RuntimeError("CUDA error:\n  out of memory at 0x7f00deadbeef")


@pytest.mark.parametrize(
    ("misbehave", "message"),
    [
        (_raises, "RuntimeError: CUDA error: out of memory at 0x…"),
        (list, "ValueError: the model answered 0 of 1 pictures"),
        (lambda: [None, None, None], "ValueError: the model answered 3 of 1 pictures"),
        (lambda: None, "TypeError: object of type 'NoneType' has no len()"),
    ],
)
def test_only_the_picture_that_a_model_cannot_do_fails(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    misbehave: Callable[[], Any],
    message: str,
) -> None:
    spec, log = worker_spec(monkeypatch, tmp_path, FILES, answer=only("05.png", misbehave))
    _, rows = label(spec, shard_work(NAMES))
    bad = rows.pop("05.png")
    assert (bad["status"], bad["error_code"]) == ("failed", "model_error")
    assert bad["error_message"] == message
    assert (bad["height"], bad["width"], bad["fingerprint"]) == (6, 9, "")
    assert bad["sha256"]
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert log[2:7] == [NAMES[4:8], *([name] for name in NAMES[4:8])]  # one by one, once


def test_a_failure_that_the_model_gives_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failure = Failure(ErrorCode.UNSUPPORTED, "too flat")

    def answer(batch: Sequence[Sample]) -> list[Segmentation]:
        return [Segmentation(*sample.original_hw, failure=failure) for sample in batch]

    spec, _ = worker_spec(monkeypatch, tmp_path, FILES, answer=answer)
    receipt, rows = label(spec, shard_work(NAMES))
    assert receipt.part.errors == {"unsupported": 10}
    assert rows["00.png"]["error_message"] == "too flat"
    assert rows["00.png"]["fingerprint"]  # not worth another try


def _shifted(batch: Sequence[Sample]) -> list[Segmentation]:
    return [Segmentation(9, 6, (whole_picture(1, (9, 6)),)) for _ in batch]


def _unknown(batch: Sequence[Sample]) -> list[Segmentation]:
    return [Segmentation(*s.original_hw, (whole_picture(9, s.original_hw),)) for s in batch]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (_shifted, "the model gave masks of 9 × 6 for a picture of 6 × 9 pixels"),
        (_unknown, "ValueError: segment of unknown category 9"),
    ],
)
def test_answers_that_break_the_contract_are_the_model_s_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: Any, message: str
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, FILES, answer=answer)
    receipt, rows = label(spec, shard_work(NAMES))
    assert receipt.part.errors == {"model_error": 10}
    assert rows["04.png"]["error_message"] == message
    assert receipt.part.annotations == 0


def test_more_segments_than_ids_fail_the_image_for_good(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(parts, "SEGMENT_BITS", 2)

    def answer(batch: Sequence[Sample]) -> list[Segmentation]:
        counts = {"00.png": 3, "01.png": 4}
        return [
            Segmentation(
                *s.original_hw,
                (whole_picture(1, s.original_hw),) * counts.get(s.record.file_name, 1),
            )
            for s in batch
        ]

    spec, _ = worker_spec(monkeypatch, tmp_path, FILES, answer=answer)
    receipt, rows = label(spec, shard_work(NAMES[:3]))
    assert [row["num_segments"] for row in rows.values()] == [3, 0, 1]
    assert receipt.part.errors == {"too_many_segments": 1}
    assert rows["01.png"]["error_message"] == "4 segments, at most 3"
    assert rows["01.png"]["fingerprint"]


def test_what_cannot_be_read_fails_without_a_key_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, {"b.png": png(1)})
    work = shard_work(["a.png", "b.png"])
    first, rows = label(spec, work)
    bad = rows["a.png"]
    assert (bad["error_code"], bad["fingerprint"], bad["sha256"]) == ("read_error", "", None)
    assert bad["error_message"] == "StorageError: permission denied: memory:a.png"
    assert (bad["width"], bad["size_bytes"]) == (None, None)
    spec, log = worker_spec(monkeypatch, tmp_path, {"a.png": png(0), "b.png": png(1)})
    again, rows = label(spec, work, index_of(spec, first))
    assert (again.computed, again.reused) == (1, 1)
    assert log[1:-1] == [["a.png"]]
    assert rows["a.png"]["status"] == "ok"
    assert again.part.name != first.part.name


def test_poison_is_neither_read_nor_lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec, log = worker_spec(monkeypatch, tmp_path, FILES)
    poison = [NAMES[0], NAMES[5], NAMES[9]]
    receipt, rows = label(spec, shard_work(NAMES, poison=poison))
    assert list(rows) == NAMES
    crashed = [name for name, row in rows.items() if row["error_code"] == "crashed"]
    assert crashed == poison
    assert rows[NAMES[5]]["fingerprint"] == ""
    assert receipt.part.errors == {"crashed": 3}
    assert not any(name in batch for batch in log[1:-1] for name in poison)
    for name in set(NAMES) - set(poison):  # the others kept their own labels
        assert rows[name]["segments"][0]["image_id"] == rows[name]["image_id"]
        assert rows[name]["status"] == "ok"


def test_renamed_images_keep_labels_under_their_new_names_and_ids(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = {**FILES, "03.png": BROKEN}
    spec, _ = worker_spec(monkeypatch, tmp_path, files)
    first, before = label(spec, shard_work(NAMES))
    moved = {f"new/{name}": data for name, data in files.items()}
    spec, log = worker_spec(monkeypatch, tmp_path, moved, name="moved-model")
    work = shard_work(list(moved), first_id=100, shard="00000064")
    again, after = label(spec, work, index_of(spec, first))
    assert (again.computed, again.reused, log) == (0, 10, ["load cpu", "close"])
    for number, name in enumerate(NAMES):
        old, new = before[name], after[f"new/{name}"]
        assert new["image_id"] == 100 + number
        changed = {"image_id", "file_name", "segments"}
        assert {k: v for k, v in new.items() if k not in changed} == {
            k: v for k, v in old.items() if k not in changed
        }
        for one, two in zip(old["segments"], new["segments"], strict=True):
            own = {
                "image_id": 100 + number,
                "annotation_id": annotation_id(100 + number, one["segment_id"]),
                "model": "moved-model",
            }
            assert two == {**one, **own}
    assert after["new/03.png"]["error_code"] == "not_an_image"  # also a failure is kept


def test_the_same_picture_twice_has_its_own_rows_each(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, {"a.png": png(1)})
    first, _ = label(spec, shard_work(["a.png"]))
    spec, _ = worker_spec(monkeypatch, tmp_path, {"b.png": png(1), "c.png": png(1)})
    work = shard_work(["b.png", "c.png"], first_id=50)
    _, rows = label(spec, work, index_of(spec, first))
    assert [row["segments"][0]["image_id"] for row in rows.values()] == [50, 51]


def test_background_alone_is_empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def answer(batch: Sequence[Sample]) -> list[Segmentation]:
        return [Segmentation(*s.original_hw, (whole_picture(2, s.original_hw),)) for s in batch]

    spec, _ = worker_spec(monkeypatch, tmp_path, FILES, answer=answer)
    receipt, rows = label(spec, shard_work(NAMES))
    assert receipt.part.statuses == {"empty": 10}
    assert rows["00.png"]["num_segments"] == 1


SEVERAL: tuple[Task, ...] = ("semantic", "instance")


def answer_tasks(*order: Task | None) -> Callable[[Sequence[Sample]], list[Segmentation]]:
    """A cell that covers the picture for each of these tasks, in this order."""

    def found(sample: Sample) -> Segmentation:
        cell = whole_picture(1, sample.original_hw)
        segments = tuple(replace(cell, task=task) for task in order)
        return Segmentation(*sample.original_hw, segments)

    return lambda batch: [found(sample) for sample in batch]


def test_rows_of_several_tasks_say_which_and_count_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer = answer_tasks("semantic", "instance", "instance")
    spec, _ = worker_spec(monkeypatch, tmp_path, FILES, answer=answer, tasks=SEVERAL)
    receipt, rows = label(spec, shard_work(NAMES))
    assert [(row["segment_id"], row["task"]) for row in rows["04.png"]["segments"]] == [
        *[(1, "semantic"), (2, "instance"), (3, "instance")],
    ]
    assert {task: own.annotations for task, own in receipt.part.tasks.items()} == {
        "semantic": 10,
        "instance": 20,
    }
    moved = {f"new/{name}": data for name, data in FILES.items()}
    spec, log = worker_spec(
        monkeypatch, tmp_path, moved, answer=answer, tasks=SEVERAL, name="moved"
    )
    again, after = label(
        spec, shard_work(list(moved), first_id=50, shard="00000032"), index_of(spec, receipt)
    )
    assert (again.computed, log) == (0, ["load cpu", "close"])
    assert again.part.tasks == receipt.part.tasks
    for name in NAMES:
        old, new = rows[name]["segments"], after[f"new/{name}"]["segments"]
        assert [row["task"] for row in new] == [row["task"] for row in old]


def test_a_task_of_several_may_find_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, _ = worker_spec(
        monkeypatch, tmp_path, FILES, answer=answer_tasks("instance"), tasks=SEVERAL
    )
    receipt, _ = label(spec, shard_work(NAMES))
    assert {task: own.statuses for task, own in receipt.part.tasks.items()} == {
        "semantic": {"empty": 10},
        "instance": {"ok": 10},
    }
    assert receipt.part.statuses == {"ok": 10}


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (("instance", "semantic"), "a segment of task semantic where instance is due"),
        (("semantic", "panoptic"), "a segment of task panoptic where semantic or instance is due"),
        (("semantic", None), "a segment of task None where semantic or instance is due"),
        (("semantic", "instance", None), "a segment of task None where instance is due"),
    ],
)
def test_an_answer_out_of_the_tasks_order_is_a_model_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, order: tuple[Task | None, ...], message: str
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, FILES, answer=answer_tasks(*order), tasks=SEVERAL)
    receipt, rows = label(spec, shard_work(NAMES))
    assert receipt.part.errors == {"model_error": 10}
    assert rows["00.png"]["error_message"] == f"ValueError: {message}"


def test_a_model_of_one_task_may_name_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, FILES, answer=answer_tasks("panoptic", None))
    receipt, rows = label(spec, shard_work(NAMES))
    assert [row["task"] for row in rows["00.png"]["segments"]] == ["panoptic", "panoptic"]
    assert receipt.part.tasks == {}


def test_a_shard_done_twice_leaves_the_same_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, FILES)
    one, _ = label(spec, shard_work(NAMES))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.parquet")}
    two, _ = label(spec, shard_work(NAMES))
    clocks = {"seconds": 0.0, "busy": 0.0, "waited": 0.0}
    assert replace(one, **clocks) == replace(two, **clocks)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.parquet")} == before


def test_a_probe_does_the_work_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, log = worker_spec(monkeypatch, tmp_path, FILES)
    worker = ShardWorker(spec)
    worker.probe(map(worker.preparer.prepare, shard_work(NAMES).records))
    assert [name for batch in log[1:] for name in batch] == NAMES
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_stops_the_shard(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, FILES)
    (tmp_path / "annotations").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="annotations"):
        label(spec, shard_work(NAMES))
    assert not (tmp_path / "receipts").exists()


def test_a_crash_of_the_machine_s_own_is_not_swallowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(batch: Sequence[Sample]) -> Any:
        raise KeyboardInterrupt

    spec, _ = worker_spec(monkeypatch, tmp_path, FILES, answer=interrupted)
    with pytest.raises(KeyboardInterrupt):
        label(spec, shard_work(NAMES))


def test_the_model_is_built_from_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, FILES)
    seen: list[Any] = []
    real = RecordingSegmenter.__init__

    def noted(self: RecordingSegmenter, *arguments: Any) -> None:
        seen.append(arguments)
        real(self, *arguments)

    monkeypatch.setattr(RecordingSegmenter, "__init__", noted)
    ShardWorker(spec)
    assert seen == [(spec.info, spec.config.model, ("panoptic",))]


def test_a_model_that_cannot_be_loaded_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, FILES)

    def broken(self: RecordingSegmenter, device: str) -> None:
        raise OSError("half a\nfile")

    monkeypatch.setattr(RecordingSegmenter, "load", broken)
    message = r"^model 'recording' of  ?cannot be loaded on cpu: OSError: half a file$"
    with pytest.raises(ModelLoadError, match=message):
        ShardWorker(spec)
    with pytest.raises(ModelLoadError, match="KeyError: 'answer'"):
        ShardWorker(replace(spec, info=replace(spec.info, config={"log": []})))
    assert pickle.loads(pickle.dumps(ModelLoadError("x"))).args == ("x",)


def test_answers_are_refined_for_every_family(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, FILES)
    for config, statuses in (
        ({"model": {"min_score": 0.6}}, {"empty": 10}),
        ({"refine": {"categories": {"cell": {"min_area": 55}}}}, {"empty": 10}),
        ({"refine": {"categories": {"cell": {"min_area": 54}}}}, {"ok": 10}),
    ):
        given = spec.config.model_dump()
        given = {key: {**given[key], **value} for key, value in config.items()}
        job = JobConfig.parse({**spec.config.model_dump(), **given})
        receipt, rows = label(replace(spec, config=job, run=str(config)), shard_work(NAMES))
        assert receipt.part.statuses == statuses, config
        background = [row["category"] for row in rows["00.png"]["segments"]]
        assert background == (["ground"] if statuses == {"empty": 10} else ["cell"])


def test_a_mask_that_cannot_be_refined_fails_its_picture_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def answer(batch: Sequence[Sample]) -> list[Segmentation]:
        found = answer_all(batch)
        return [
            replace(one, segments=(replace(one.segments[0], counts=b"1"),))
            if sample.record.file_name == "03.png"
            else one
            for sample, one in zip(batch, found, strict=True)
        ]

    spec, _ = worker_spec(monkeypatch, tmp_path, FILES, answer=answer)
    job = JobConfig.parse({**spec.config.model_dump(), "refine": {"min_island": 2}})
    receipt, rows = label(replace(spec, config=job), shard_work(NAMES))
    assert receipt.part.statuses == {"failed": 1, "ok": 9}
    assert "malformed RLE for 9x6 pixels" in rows["03.png"]["error_message"]


def test_the_model_is_told_the_lowest_limits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, FILES)
    own = {"cell": {"min_score": 0.2, "min_area": 4}}
    job = JobConfig.parse(
        {
            **spec.config.model_dump(),
            "model": {"name": "m", "min_score": 0.7, "min_area": 9},
            "refine": {"categories": own},
        }
    )
    seen: list[Any] = []
    real = RecordingSegmenter.__init__

    def noted(self: RecordingSegmenter, *arguments: Any) -> None:
        seen.append(arguments[1])
        real(self, *arguments)

    monkeypatch.setattr(RecordingSegmenter, "__init__", noted)
    ShardWorker(replace(spec, config=job))
    assert (seen[0].min_score, seen[0].min_area) == (0.2, 4)


@pytest.mark.parametrize(("scheme", "once_more"), [("s3://b/", 1), ("/local/", 0)])
def test_a_picture_of_a_store_that_cannot_be_decoded_is_looked_at_once_more(
    monkeypatch, tmp_path, scheme, once_more
):
    files = {"a.png": png(1), "b.png": png(2)[:60]}
    spec, _ = worker_spec(monkeypatch, tmp_path / "out", files)
    work = shard_work(list(files))
    records = tuple(replace(record, uri=scheme + record.file_name) for record in work.records)
    work = replace(work, records=records)
    worker = ShardWorker(spec)
    receipt = worker.run(work, map(worker.preparer.prepare, records))
    assert receipt.part.errors == {"truncated": 1}
    assert receipt.once_more == once_more
    again = worker.run(replace(work, second=True), map(worker.preparer.prepare, records))
    assert (again.once_more, again.part) == (0, receipt.part)


def test_a_device_that_is_lost_ends_the_worker_and_writes_nothing(monkeypatch, tmp_path):
    def answer(batch):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    spec, _ = worker_spec(monkeypatch, tmp_path / "out", {"a.png": png(1)}, answer=answer)
    work = shard_work(["a.png"])
    worker = ShardWorker(spec)
    with pytest.raises(DeviceLostError, match="illegal memory access"):
        worker.run(work, map(worker.preparer.prepare, work.records))
    assert not list((tmp_path / "out").rglob("*.parquet"))


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_fails_its_picture_alone(monkeypatch, tmp_path, score):
    def answer(batch):
        found = answer_all(batch)
        spoilt = replace(found[0].segments[0], score=score)
        return [
            replace(one, segments=(spoilt,)) if s.record.file_name == "b.png" else one
            for one, s in zip(found, batch, strict=True)
        ]

    files = {"a.png": png(1), "b.png": png(2)}
    spec, _ = worker_spec(monkeypatch, tmp_path / "out", files, answer=answer)
    work = shard_work(list(files))
    worker = ShardWorker(spec)
    receipt = worker.run(work, map(worker.preparer.prepare, work.records))
    assert receipt.part.errors == {"model_error": 1}
    assert receipt.part.statuses == {"failed": 1, "ok": 1}
