"""What became of each object of an image from one version to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.column_runs import ColumnRuns, read_column_runs
from pipeline.evaluation.assignment import assign

from .versions import Row, SideImage

CHANGES = ("matched", "grown", "shrunk", "appeared", "vanished")


def find_changes(
    a: SideImage, b: SideImage, task: str, *, min_iou: float, tolerance: float
) -> list[dict[str, Any]]:
    """Compares the objects of one image and task.

    Objects are assigned one to one, whatever their categories, so that as many pairs as possible
    have an IoU of at least `min_iou`, and then the sum of IoU is largest
    (`pipeline.evaluation.assignment.assign`). Those left over vanished or appeared.

    Args:
        a: The image before.
        b: The same image after, of the same size.
        task: Whose segments.
        min_iou: Overlap that makes two objects the same one, above 0.
        tolerance: Share by which an area may change and still be `matched`, neither grown nor
            shrunk.

    Returns:
        Rows with the schema `schemas.measurements.CHANGES`: objects of `a` in their order, then
        those that appeared.

    Raises:
        ValueError: A mask is malformed.
    """
    before = [row for row in a.segments if row["task"] == task]
    after = [row for row in b.segments if row["task"] == task]
    runs_a, runs_b = _runs(a, before), _runs(b, after)
    areas_a, areas_b = runs_a.areas(len(before)), runs_b.areas(len(after))
    rows, columns, shared = runs_a.overlaps(runs_b)
    iou = shared / (areas_a[rows] + areas_b[columns] - shared)
    enough = np.flatnonzero(iou >= min_iou)
    chosen = enough[assign(rows[enough], columns[enough], iou[enough])]
    partner = dict(zip(rows[chosen].tolist(), chosen.tolist(), strict=True))
    found = []
    for index, row in enumerate(before):
        pair = partner.get(index)
        if pair is None:
            found.append(_row(a.name, task, "vanished", row, None))
            continue
        other = after[columns[pair]]
        area_a, area_b = row["area"], other["area"]
        change = "matched"
        if abs(area_b - area_a) > tolerance * area_a:
            change = "grown" if area_b > area_a else "shrunk"
        found.append(
            _row(a.name, task, change, row, other)
            | {
                "iou": float(iou[pair]),
                "category_changed": row["category"] != other["category"],
                "area_change": area_b - area_a,
                "area_ratio": area_b / area_a,
            }
        )
    taken = set(columns[chosen].tolist())
    return found + [
        _row(a.name, task, "appeared", None, row)
        for index, row in enumerate(after)
        if index not in taken
    ]


def _runs(image: SideImage, rows: Sequence[Row]) -> ColumnRuns:
    texts = pa.array([row["rle"]["counts"] for row in rows], pa.string())
    try:
        return read_column_runs(texts, *image.size_hw)
    except ValueError as error:
        raise ValueError(f"{image.name}: {error}") from None


def _row(name: str, task: str, change: str, a: Row | None, b: Row | None) -> dict[str, Any]:
    return {
        "file_name": name,
        "task": task,
        "change": change,
        "annotation_id_a": a and a["annotation_id"],
        "annotation_id_b": b and b["annotation_id"],
        "category_a": a and a["category"],
        "category_b": b and b["category"],
        "area_a": a and a["area"],
        "area_b": b and b["area"],
    }
