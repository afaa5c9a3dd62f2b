"""Two versions of a dataset, or two datasets of the same scenes, object by object."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from schemas.measurements import CHANGES as CHANGES_SCHEMA

from .measuring.changes import CHANGES, find_changes
from .measuring.tables import TableWriter
from .measuring.versions import Side, SideImage, open_side
from .storage import Storage, absolute_uri

LISTED = 100
"""Names of images listed in the summary; the numbers beside them cover all."""


def compare(
    a: str,
    b: str,
    *,
    output: str | None = None,
    min_iou: float = 0.3,
    tolerance: float = 0.1,
    storage: Storage | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Finds what became of every object: matched, grown, shrunk, appeared or vanished.

    Images are paired by their file names, objects as `measuring.changes.find_changes` says.
    Background is left out. Images that are on one side only, failed on one, or differ in size are
    counted and listed, and their objects left out.

    Args:
        a: The state before: a dataset, or a file of its versions/.
        b: The state after, likewise.
        output: URI of a Parquet file to write, with the schema `schemas.measurements.CHANGES`.
        min_iou: Overlap that makes two objects the same one, above 0 to 1.
        tolerance: Share by which an area may change without counting as grown or shrunk.
        storage: File access.
        progress: Called with (images done, images) after every image.

    Returns:
        Plain data for JSON with the keys a, b, settings, images, names, overall and categories.

    Raises:
        ValueError: Bad arguments, a damaged dataset, or sides that have nothing in common.
        StorageError: A file cannot be read or written.
    """
    if not 0 < min_iou <= 1:
        raise ValueError(f"the least IoU must be above 0 and at most 1, got {min_iou}")
    if not tolerance >= 0:
        raise ValueError(f"the tolerance must be 0 or more, got {tolerance}")
    if output is not None and not output.endswith(".parquet"):
        raise ValueError(f"the output must end in .parquet, got {output!r}")
    storage = storage or Storage()
    before, after = open_side(a, storage), open_side(b, storage)
    tasks = [task for task in before.ledger.manifest.tasks if task in after.ledger.manifest.tasks]
    if not tasks:
        raise ValueError(
            f"nothing to compare: {a} holds {', '.join(before.ledger.manifest.tasks)} segments, "
            f"{b} {', '.join(after.ledger.manifest.tasks)}"
        )
    if not before.names.keys() & after.names.keys():
        raise ValueError(f"no image of {a} has the name of one of {b}")
    tally = _Tally(before, after)
    with tempfile.TemporaryDirectory(prefix="maskmill-compare-") as folder:
        writer = TableWriter(Path(folder) / "changes.parquet", CHANGES_SCHEMA)
        for done, (one, other) in enumerate(tally.pairs(), 1):
            rows = [
                row
                for task in tasks
                for row in find_changes(one, other, task, min_iou=min_iou, tolerance=tolerance)
            ]
            tally.add(rows)
            if output is not None:
                writer.add(pa.Table.from_pylist(rows, schema=CHANGES_SCHEMA))
            if progress:
                progress(done, len(before.names))
        writer.close()
        if output is not None:
            storage.put_file(writer.path, absolute_uri(output))
    return {
        "a": {"uri": absolute_uri(a), "version": before.ledger.manifest.version},
        "b": {"uri": absolute_uri(b), "version": after.ledger.manifest.version},
        "settings": {"tasks": tasks, "min_iou": min_iou, "tolerance": tolerance},
        **tally.to_json(),
    }


class _Tally:
    """Pairs the images of both sides, and counts what is found in them."""

    def __init__(self, before: Side, after: Side) -> None:
        self._before, self._after = before, after
        self._compared = 0
        self._left_out: dict[str, list[str]] = {"failed": [], "size_differs": []}
        self._counts: dict[str, Counter[str]] = {}
        self._iou: dict[str, float] = {}

    def pairs(self) -> Iterator[tuple[SideImage, SideImage]]:
        """Images that can be compared, in the order of the first side."""
        for one in self._before.images():
            other = self._after.image(one.name)
            if other is None:
                continue
            if not (one.looked_at and other.looked_at):
                self._left_out["failed"].append(one.name)
            elif one.size_hw != other.size_hw:
                self._left_out["size_differs"].append(one.name)
            else:
                self._compared += 1
                yield one, other

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Counts objects; a matched one under its first category."""
        for row in rows:
            category = row["category_a"] or row["category_b"]
            counts = self._counts.setdefault(category, Counter())
            counts[row["change"]] += 1
            counts["category_changed"] += bool(row.get("category_changed"))
            counts["area_a"] += row["area_a"] or 0
            counts["area_b"] += row["area_b"] or 0
            self._iou[category] = self._iou.get(category, 0.0) + (row.get("iou") or 0.0)

    def to_json(self) -> dict[str, Any]:
        """images, names, overall and categories."""
        a, b = self._before.names, self._after.names
        lists = {
            "only_in_a": [name for name in a if name not in b],
            "only_in_b": [name for name in b if name not in a],
            **self._left_out,
        }
        total: Counter[str] = sum(self._counts.values(), Counter())
        return {
            "images": {"compared": self._compared}
            | {key: len(names) for key, names in lists.items()},
            "names": {key: names[:LISTED] for key, names in lists.items() if names},
            "overall": _figures(total, sum(self._iou.values())),
            "categories": [
                {"category": name, **_figures(counts, self._iou[name])}
                for name, counts in sorted(self._counts.items())
            ],
        }


def _figures(counts: Counter[str], iou: float) -> dict[str, Any]:
    pairs = counts["matched"] + counts["grown"] + counts["shrunk"]
    return {
        "in_a": pairs + counts["vanished"],
        "in_b": pairs + counts["appeared"],
        **{change: counts[change] for change in CHANGES},
        "category_changed": counts["category_changed"],
        "mean_iou": iou / pairs if pairs else None,
        "area_a": counts["area_a"],
        "area_b": counts["area_b"],
    }
