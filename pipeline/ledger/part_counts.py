"""What a part holds, counted: by status, error, category, outcome of prompts and task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from schemas.manifest import TaskCounts
from schemas.notes import read_in_part
from schemas.records import Status, Task
from schemas.rows import AnnotationRow, ImageRow


def part_counts(
    images: Sequence[ImageRow],
    annotations: Sequence[AnnotationRow],
    *,
    background: frozenset[int],
    tasks: Sequence[Task],
) -> dict[str, Any]:
    """The fields of a `Part` that count its rows.

    Args:
        images: With status, error_code, note, prompts, parent_image_id and image_id.
        annotations: With image_id, category_id and task.
        background: Category ids whose segments count as nothing found.
        tasks: Of the dataset.
    """
    own = [row for row in images if row.get("parent_image_id") is None]
    prompts = (item["outcome"] for row in own for item in row.get("prompts") or ())
    return {
        "images": len(images),
        "annotations": len(annotations),
        "copies": len(images) - len(own),
        "statuses": _count(row["status"] for row in images),
        "errors": _count(row["error_code"] for row in images if row["error_code"]),
        "prompts": _count(prompts),
        "categories": _count(str(row["category_id"]) for row in annotations),
        "tasks": _per_task(tasks, images, annotations, background) if len(tasks) > 1 else {},
        "in_part": count_in_part(row["note"] for row in own),
    }


def count_in_part(notes: Iterable[str | None]) -> dict[str, int]:
    """What images were read in part of, by what was left out, and how many under "images"."""
    found = [kinds for kinds in map(read_in_part, filter(None, notes)) if kinds]
    counts = _count(kind for kinds in found for kind in dict.fromkeys(kinds))
    return {"images": len(found), **counts} if found else {}


def _per_task(
    tasks: Sequence[Task],
    images: Sequence[ImageRow],
    annotations: Sequence[AnnotationRow],
    background: frozenset[int],
) -> dict[Task, TaskCounts]:
    """Each task's share of the counts."""
    shares: dict[Task, TaskCounts] = {}
    for task in tasks:
        own = [row for row in annotations if row["task"] == task]
        found = {row["image_id"] for row in own if row["category_id"] not in background}
        statuses = (
            row["status"]
            if row["error_code"]
            else str(Status.OK if row["image_id"] in found else Status.EMPTY)
            for row in images
        )
        shares[task] = TaskCounts(
            annotations=len(own),
            statuses=_count(statuses),
            categories=_count(str(row["category_id"]) for row in own),
        )
    return shares


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
