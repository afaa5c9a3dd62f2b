"""The validator's rules where a dataset holds several tasks, or is of an earlier schema."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from old_datasets import as_version
from small_datasets import small_dataset

from pipeline.exporters import EXPORTERS, export_all
from pipeline.ledger.ledger import Ledger, open_ledger
from pipeline.validation.validate import validate
from schemas.manifest import DatasetManifest
from schemas.records import TASKS
from tests.pipeline.validation.test_validate import Rows, broken, one, publish, rewrite

FIRST = 7 << 21 | 1
"""Image 7's first row, semantic; its rows are 3 semantic, then 5 instances, then 7 panoptic."""


def row(number: int) -> int:
    return 7 << 21 | number


@pytest.mark.parametrize("tasks", [*combinations(TASKS, 2), TASKS])
def test_several_tasks_are_valid_although_they_overlap(tasks, tmp_path):
    ledger = small_dataset(tmp_path / "data", tasks)
    export_all(ledger)
    report = validate(ledger.uri)
    assert report.violations == ()
    assert report.annotations == sum(
        ledger.manifest.view(task).counts["annotations"] for task in tasks
    )
    assert report.exports


def test_every_export_of_all_tasks_is_compared(tmp_path):
    ledger = small_dataset(tmp_path / "data", TASKS, pictures=True)
    export_all(ledger, formats=tuple(EXPORTERS))
    report = validate(ledger.uri)
    assert report.ok
    assert report.exports == tuple(EXPORTERS)


def like(source: int, *keys: str, target: int) -> Any:
    """Gives one row the values of another."""

    def change(rows: Rows) -> Rows:
        found = next(item for item in rows if item["annotation_id"] == source)
        return one(target, **{key: found[key] for key in keys})(rows)

    return change


MASK = ("rle", "area", "bbox_xywh")
KIND = ("category_id", "category", "isthing")


@pytest.mark.parametrize(
    ("rule", "annotations", "example"),
    [
        ("mask-overlap", like(row(1), *MASK, target=row(2)), row(1)),
        ("mask-overlap", like(row(9), *MASK, target=row(10)), row(9)),
        ("category-once", like(row(1), *KIND, target=row(2)), row(2)),
        ("category-once", like(row(14), *KIND, target=row(9)), row(14)),
        ("annotation-order", one(FIRST, task="panoptic"), row(2)),
        ("annotation-origin", one(FIRST, task="panotic"), FIRST),
    ],
)
def test_laws_hold_for_each_task(rule, annotations, example, tmp_path):
    ledger = rewrite(small_dataset(tmp_path / "data", TASKS), annotations=annotations)
    assert f"annotation {example}" in broken(validate(ledger.uri))[rule]


def test_instances_may_overlap_beside_panoptic_segments_that_may_not(tmp_path):
    ledger = small_dataset(tmp_path / "data", TASKS)
    ledger = rewrite(ledger, annotations=like(row(4), *MASK, target=row(5)))
    assert "mask-overlap" not in broken_rules(ledger)
    ledger = small_dataset(tmp_path / "two", ("semantic", "instance"))
    ledger = rewrite(ledger, annotations=like(row(4), *MASK, target=row(5)))
    assert "mask-overlap" not in broken_rules(ledger)


def broken_rules(ledger: Ledger) -> set[str]:
    return {item.rule for item in validate(ledger.uri).violations}


@pytest.mark.parametrize(
    ("change", "example"),
    [
        ({"annotations": 99}, "instance annotations"),
        ({"statuses": {"ok": 99}}, "instance: statuses"),
        ({"categories": {"1": 99}}, "instance: categories"),
    ],
)
def test_the_counts_of_a_task_are_held_against_its_rows(change, example, tmp_path):
    ledger = small_dataset(tmp_path / "data", TASKS)
    part = ledger.manifest.parts[0]
    tasks = {**part.tasks, "instance": replace(part.tasks["instance"], **change)}
    ledger = publish(ledger, parts=(replace(part, tasks=tasks), *ledger.manifest.parts[1:]))
    (example_found,) = broken(validate(ledger.uri))["part-counts"]
    assert example_found.endswith(example)


def test_a_part_counts_each_of_several_tasks(tmp_path):
    ledger = small_dataset(tmp_path / "data", TASKS)
    part = replace(ledger.manifest.parts[0], tasks={})
    ledger = publish(ledger, parts=(part, *ledger.manifest.parts[1:]))
    (example,) = broken(validate(ledger.uri))["part-counts"]
    assert example.endswith(": tasks")


# Schema version 1


@pytest.mark.parametrize("task", TASKS)
def test_a_dataset_of_version_1_is_read_exported_and_valid(task, tmp_path):
    as_version(small_dataset(tmp_path, task), 1)
    text = (tmp_path / "manifest.json").read_text()
    assert '"tasks"' not in text
    ledger = open_ledger(str(tmp_path))
    assert (ledger.manifest.tasks, ledger.manifest.schema_version) == ((task,), 1)
    assert ledger.manifest.to_json() == text
    assert DatasetManifest.from_json(text).same_dataset(ledger.manifest)
    export_all(ledger)
    report = validate(ledger.uri)
    assert report.violations == ()
    assert report.exports


def test_version_2_wants_its_new_columns(tmp_path):
    ledger = small_dataset(tmp_path)
    text = ledger.manifest.to_json()
    as_version(ledger, 1)
    for name in ("manifest.json", "versions/000001.json"):
        (tmp_path / name).write_text(text)
    assert "part-schema" in broken_rules(ledger)
