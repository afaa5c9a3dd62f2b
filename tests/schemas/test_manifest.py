"""Manifest and receipt: round trips, and files that are something else."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from schemas.categories import Categories, Category
from schemas.manifest import SCHEMA_VERSION, DatasetManifest, Part, ShardReceipt, TaskCounts, totals

PART = Part("00000001-ab", 3, 4, {"ok": 2, "failed": 1}, {"truncated": 1}, {"1": 4}, "a", "b", 99)
RECEIPT = ShardReceipt("00000001", "token", "run", PART, 2, 1, 0.25)
TABLE = Categories((Category(1, "ünï", True, "#ff0000"),))
MANIFEST = DatasetManifest(
    schema_version=SCHEMA_VERSION,
    version=3,
    input="/in",
    tasks=("panoptic",),
    model={"name": "m"},
    categories=TABLE.to_json(),
    config={"model": {"threshold": 0.5}},
    config_fingerprint="f",
    packages={"numpy": "2"},
    counts={"images": 6, "annotations": 8, "ok": 4, "empty": 0, "failed": 2, "skipped": 0},
    category_counts={"1": 4},
    error_counts={"truncated": 1},
    parts=(PART, dataclasses.replace(PART, name="00000002-cd")),
)


SHARE = {"annotations": 1, "statuses": {"ok": 1}, "categories": {"1": 1}}
TWO_TASKS = dataclasses.replace(
    PART,
    tasks={
        "semantic": TaskCounts(1, {"ok": 1, "empty": 1, "failed": 1}, {"1": 1}),
        "panoptic": TaskCounts(3, {"ok": 2, "failed": 1}, {"1": 3}),
    },
)


def changed(text: str, **changes: Any) -> str:
    data = json.loads(text)
    return json.dumps({**data, **changes})


def test_round_trips() -> None:
    assert ShardReceipt.from_json(RECEIPT.to_json()) == RECEIPT
    assert ShardReceipt.from_json(RECEIPT.to_json().encode()) == RECEIPT
    again = DatasetManifest.from_json(MANIFEST.to_json().encode())
    assert again == MANIFEST
    assert again.to_json() == MANIFEST.to_json()
    assert again.category_table() == TABLE


def test_several_tasks_survive_a_round_trip_and_one_leaves_no_trace() -> None:
    two = dataclasses.replace(MANIFEST, tasks=("semantic", "panoptic"), parts=(TWO_TASKS,))
    assert DatasetManifest.from_json(two.to_json()) == two
    receipt = dataclasses.replace(RECEIPT, part=TWO_TASKS)
    assert ShardReceipt.from_json(receipt.to_json()) == receipt
    assert "tasks" not in json.loads(MANIFEST.to_json())["parts"][0]
    assert "tasks" not in RECEIPT.to_json()


def test_copies_are_counted_where_there_are_any() -> None:
    part = dataclasses.replace(TWO_TASKS, copies=2)
    assert json.loads(dataclasses.replace(RECEIPT, part=part).to_json())["part"]["copies"] == 2
    assert "copies" not in RECEIPT.to_json()
    receipt = dataclasses.replace(RECEIPT, part=part)
    assert ShardReceipt.from_json(receipt.to_json()) == receipt
    assert totals([part, part], [])["counts"]["copies"] == 4
    assert "copies" not in totals([TWO_TASKS], [])["counts"]
    assert part.view("semantic").copies == 2


def test_a_view_sums_its_own_share() -> None:
    two = dataclasses.replace(
        MANIFEST, tasks=("semantic", "panoptic"), parts=(TWO_TASKS, TWO_TASKS)
    )
    view = two.view("semantic")
    assert view.tasks == ("semantic",)
    assert view.counts == {
        **{"images": 6, "annotations": 2},
        **{"ok": 2, "empty": 2, "failed": 2, "skipped": 0},
    }
    assert (view.category_counts, view.error_counts) == ({"1": 2}, {"truncated": 2})
    assert MANIFEST.view("panoptic") is MANIFEST
    with pytest.raises(ValueError, match="holds no instance labels, only semantic, panoptic"):
        two.view("instance")


def test_version_1_is_read_and_written_as_it_was() -> None:
    data = json.loads(MANIFEST.to_json())
    (data["task"],) = data.pop("tasks")
    text = json.dumps({**data, "schema_version": 1}, indent=1, sort_keys=True, ensure_ascii=False)
    old = DatasetManifest.from_json(text)
    assert (old.tasks, old.task, old.schema_version) == (("panoptic",), "panoptic", 1)
    assert old.to_json() == text + "\n"
    assert not old.same_dataset(MANIFEST)


def test_manifest_text_is_the_same_whatever_the_order_of_keys() -> None:
    turned = dataclasses.replace(
        MANIFEST, counts=dict(reversed(list({"images": 3, "ok": 1}.items())))
    )
    straight = dataclasses.replace(MANIFEST, counts={"images": 3, "ok": 1})
    assert turned.to_json() == straight.to_json()
    assert MANIFEST.to_json().endswith("}\n")
    assert "ünï" in MANIFEST.to_json()


def test_same_dataset_looks_at_everything_but_the_version() -> None:
    assert MANIFEST.same_dataset(dataclasses.replace(MANIFEST, version=9))
    for item in dataclasses.fields(MANIFEST):
        if item.name != "version":
            other = dataclasses.replace(MANIFEST, **{item.name: "something else"})
            assert not MANIFEST.same_dataset(other), item.name


def test_same_dataset_holds_after_a_round_trip() -> None:
    assert DatasetManifest.from_json(MANIFEST.to_json()).same_dataset(MANIFEST)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "5", "null", "{}", '"text"', '{"schema_version": "x"}'),
        '{"schema_version": null}',
        '{"schema_version": 1}',
        changed(MANIFEST.to_json(), parts=None),
        changed(MANIFEST.to_json(), parts=[5]),
        changed(MANIFEST.to_json(), parts=[{"name": "x"}]),
        changed(MANIFEST.to_json(), unheard_of=1),
        changed(MANIFEST.to_json(), tasks=[]),
        changed(MANIFEST.to_json(), tasks="panoptic"),
        changed(MANIFEST.to_json(), tasks=["panotic"]),
        changed(MANIFEST.to_json(), tasks=["panoptic", "semantic"]),
        changed(MANIFEST.to_json(), task="panoptic"),
        changed(MANIFEST.to_json(), parts=[{**PART.plain(), "tasks": {"panotic": SHARE}}]),
        changed(MANIFEST.to_json(), parts=[{**PART.plain(), "tasks": {"panoptic": {}}}]),
    ],
)
def test_what_is_no_manifest_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="not a maskmill manifest") as caught:
        DatasetManifest.from_json(text)
    assert "\n" not in str(caught.value)


def test_a_newer_schema_is_named_before_anything_else_is_looked_at() -> None:
    text = json.dumps({"schema_version": SCHEMA_VERSION + 1, "another": "shape"})
    with pytest.raises(ValueError, match=f"schema version {SCHEMA_VERSION + 1}.*newer maskmill"):
        DatasetManifest.from_json(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "5", "null", "{}", b"\xff"),
        changed(RECEIPT.to_json(), part=None),
        changed(RECEIPT.to_json(), part={"name": "x"}),
        changed(RECEIPT.to_json(), more=1),
    ],
)
def test_what_is_no_receipt_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own message, or ours
        ShardReceipt.from_json(text)


@pytest.mark.parametrize("name", ["../../esc", "a/b", "", "a.b", "ünï", 3, None])
def test_a_part_whose_name_is_no_file_name_is_refused(name):
    part = {**PART.plain(), "name": name}
    with pytest.raises(ValueError, match="not a maskmill manifest"):
        DatasetManifest.from_json(changed(MANIFEST.to_json(), parts=[part]))
    with pytest.raises(ValueError, match="not a shard receipt"):
        ShardReceipt.from_json(changed(RECEIPT.to_json(), part=part))


@pytest.mark.parametrize("key", ["shard", "token"])
def test_a_receipt_names_no_file_outside(key):
    with pytest.raises(ValueError, match="not a shard receipt"):
        ShardReceipt.from_json(changed(RECEIPT.to_json(), **{key: "../x"}))


@pytest.mark.parametrize(
    "change",
    [
        {"counts": {}},
        {"counts": []},
        {"config": ["a", "list"]},
        {"parts": {"name": "x"}},
        {"parts": [[]]},
        {"categories": [{"id": "one"}]},
        {"categories": None},
        {"version": "first"},
        {"error_counts": {"read_error": "many"}},
        {"tasks": "panoptic"},
        {"stranger": 1},
    ],
)
def test_a_damaged_manifest_is_one_error(change):
    with pytest.raises(ValueError, match="not a maskmill manifest"):
        DatasetManifest.from_json(changed(MANIFEST.to_json(), **change))


def test_a_deeply_nested_manifest_is_one_error():
    with pytest.raises(ValueError, match="not a maskmill manifest"):
        DatasetManifest.from_json("[" * 100_000 + "]" * 100_000)
