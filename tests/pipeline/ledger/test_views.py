"""A view of one task of several is the dataset that this task alone would have made."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_datasets import BACKGROUND, CATEGORIES, NUCLEUS, SKY, small_dataset

from pipeline.ledger.ledger import Ledger, open_ledger, write_dataset
from pipeline.masks import codec
from schemas.records import (
    TASKS,
    ErrorCode,
    Failure,
    ImageRecord,
    Segment,
    Segmentation,
    Task,
    answer,
)

SEVERAL: list[tuple[Task, ...]] = [*combinations(TASKS, 2), TASKS]

OF_THE_RUN = ("segment_id", "annotation_id", "run", "fingerprint")
"""Columns that differ although the labels are the same."""


def rows(ledger: Ledger) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    def plain(row: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in row.items() if key not in OF_THE_RUN}

    return [(plain(image), [plain(row) for row in found]) for image, found in ledger.rows()]


def segment(category: int, top: int, bottom: int) -> Segment:
    mask = np.zeros((6, 8), np.uint8)
    mask[top:bottom] = 1
    (region,) = codec.regions(mask)
    return Segment(category, region.counts, region.area, region.bbox_xywh)


FOUND: dict[str, dict[Task, list[Segment]]] = {
    "both": {
        "semantic": [segment(NUCLEUS.id, 0, 3), segment(BACKGROUND.id, 3, 6)],
        "instance": [segment(NUCLEUS.id, 0, 2), segment(NUCLEUS.id, 2, 3)],
    },
    "sky alone": {"semantic": [segment(SKY.id, 0, 6)], "instance": []},
    "an object alone": {
        "semantic": [segment(BACKGROUND.id, 0, 6)],
        "instance": [segment(NUCLEUS.id, 0, 1)],
    },
    "nothing": {"semantic": [segment(BACKGROUND.id, 0, 6)], "instance": []},
}


def dataset(folder: Path, *tasks: Task) -> Ledger:
    images: list[tuple[ImageRecord, Segmentation | Failure]] = [
        (
            ImageRecord(name, "", image_id=number),
            answer(6, 8, {task: found[task] for task in tasks}),
        )
        for number, (name, found) in enumerate(FOUND.items(), start=1)
    ]
    broken = (ImageRecord("broken", "", image_id=9), Failure(ErrorCode.TRUNCATED, "short"))
    images.insert(2, broken)
    write_dataset(str(folder), images, categories=CATEGORIES, task=tasks, shard_size=3)
    return open_ledger(str(folder))


@pytest.mark.parametrize("tasks", SEVERAL)
def test_a_view_is_the_dataset_of_its_task(tasks: tuple[Task, ...], tmp_path: Path) -> None:
    several = small_dataset(tmp_path / "several", tasks)
    for task in tasks:
        alone = small_dataset(tmp_path / task, task)
        assert rows(several.view(task)) == rows(alone)
        seen, due = several.view(task).manifest, alone.manifest
        assert (seen.task, seen.counts, seen.category_counts, seen.error_counts) == (
            *(task, due.counts, due.category_counts, due.error_counts),
        )


def test_the_whole_is_ok_where_any_task_found_something(tmp_path: Path) -> None:
    several = dataset(tmp_path / "both", "semantic", "instance")
    assert [(image["status"], image["num_segments"]) for image, _ in several.rows()] == [
        *[("ok", 4), ("ok", 1), ("failed", 0), ("ok", 2), ("empty", 1)],
    ]
    counts = {"images": 5, "annotations": 8, "ok": 3, "empty": 1, "failed": 1, "skipped": 0}
    assert several.manifest.counts == counts
    assert several.manifest.category_counts == {"1": 4, "92": 1, "3": 3}


@pytest.mark.parametrize(
    ("task", "statuses"),
    [
        ("semantic", ["ok", "ok", "failed", "empty", "empty"]),
        ("instance", ["ok", "empty", "failed", "ok", "empty"]),
    ],
)
def test_status_and_counts_of_a_view_follow_its_task(
    task: Task, statuses: list[str], tmp_path: Path
) -> None:
    view = dataset(tmp_path / "both", "semantic", "instance").view(task)
    alone = dataset(tmp_path / "alone", task)
    assert [image["status"] for image, _ in view.rows()] == statuses
    assert rows(view) == rows(alone)
    assert view.manifest.counts == alone.manifest.counts
    assert [part.statuses for part in view.manifest.parts] == [
        part.statuses for part in alone.manifest.parts
    ]


def test_ids_stay_those_of_the_dataset(tmp_path: Path) -> None:
    several = dataset(tmp_path, "semantic", "instance")
    whole = [row for _, found in several.rows() for row in found]
    seen = [row for _, found in several.view("instance").rows() for row in found]
    assert seen == [row for row in whole if row["task"] == "instance"]
    assert [row["segment_id"] for row in whole[:4]] == [1, 2, 3, 4]
    assert [row["task"] for row in whole[:4]] == ["semantic", "semantic", "instance", "instance"]


@pytest.mark.parametrize("columns", [["status"], ["num_segments", "image_id"], ["width"]])
def test_columns_are_the_ones_asked_for(columns: list[str], tmp_path: Path) -> None:
    several = dataset(tmp_path, "semantic", "instance")
    view = several.view("instance")
    for table, whole in zip(view.images(columns), view.images(), strict=True):
        assert set(table.column_names) == {*columns}
        assert table == whole.select(table.column_names)
    for table, whole in zip(view.annotations(["area"]), view.annotations(), strict=True):
        assert table == whole.select(["area"])


def test_a_view_of_the_only_task_is_the_ledger_itself(tmp_path: Path) -> None:
    ledger = dataset(tmp_path, "instance")
    assert ledger.view("instance") is ledger
    view = dataset(tmp_path / "b", "semantic", "instance").view("semantic")
    assert view.view("semantic") is view
    for no_such in (ledger, view):
        with pytest.raises(ValueError, match="holds no panoptic labels, only"):
            no_such.view("panoptic")


def test_one_of_several_is_not_guessed(tmp_path: Path) -> None:
    manifest = dataset(tmp_path, "semantic", "instance").manifest
    with pytest.raises(ValueError, match="several tasks: semantic, instance"):
        _ = manifest.task
    assert manifest.view("semantic").task == "semantic"
