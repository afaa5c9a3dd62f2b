"""Two versions of a dataset, or two datasets of the same scenes, object by object."""

from __future__ import annotations

import tempfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.evaluation.metrics.matching import assign
from pipeline.ledger.ledger import Ledger, open_ledger, read_manifest
from pipeline.ledger.parts import rows_by_image
from pipeline.ledger.views import PARENT, without_copies
from pipeline.masks.column_runs import ColumnRuns, read_column_runs
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri
from schemas.measurements import CHANGES as CHANGES_SCHEMA
from schemas.records import Status
from schemas.rows import AnnotationRow, ImageRow

from .tables import TableWriter

# A dataset, or one of its earlier versions, as a side of a comparison.

_COLUMNS = ("annotation_id", "image_id", "task", "category_id", "category", "area", "rle")
_OPEN_PARTS = 2


@dataclass(frozen=True, slots=True)
class SideImage:
    """One image of a side.

    Attributes:
        name: Its file name.
        looked_at: It neither failed nor was skipped.
        size_hw: (height, width), pixels, (0, 0) where unknown.
        segments: Its annotation rows but those of background.
    """

    name: str
    looked_at: bool
    size_hw: tuple[int, int]
    segments: tuple[AnnotationRow, ...]


class DatasetVersion:
    """Reads images by name; a part or two are in memory, and where each name is.

    Args:
        ledger: The version.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.names: dict[str, int] = {}
        self._background = frozenset(item.id for item in ledger.categories if item.is_background)
        self._open: OrderedDict[int, Mapping[str, SideImage]] = OrderedDict()
        for part, table in enumerate(ledger.images(("file_name", PARENT))):
            names = without_copies(table)["file_name"].to_pylist()
            self.names.update(dict.fromkeys(names, part))

    def images(self) -> Iterator[SideImage]:
        """All images in the dataset's order."""
        for part in range(len(self.ledger.manifest.parts)):
            yield from self._part(part).values()

    def image(self, name: str) -> SideImage | None:
        """The image of this name, None where there is none."""
        part = self.names.get(name)
        return None if part is None else self._part(part)[name]

    def _part(self, index: int) -> Mapping[str, SideImage]:
        if index not in self._open:
            part = self.ledger.manifest.parts[index]
            by_image = rows_by_image(self.ledger.annotations_of(part, _COLUMNS))
            columns = ("image_id", "file_name", "status", "height", "width", PARENT)
            rows = without_copies(self.ledger.images_of(part, columns)).to_pylist()
            self._open[index] = {
                row["file_name"]: self._image(row, by_image.get(row["image_id"], []))
                for row in rows
            }
            while len(self._open) > _OPEN_PARTS:
                self._open.popitem(last=False)
        self._open.move_to_end(index)
        return self._open[index]

    def _image(self, row: ImageRow, segments: list[AnnotationRow]) -> SideImage:
        return SideImage(
            row["file_name"],
            row["status"] in (Status.OK, Status.EMPTY),
            (row["height"] or 0, row["width"] or 0),
            tuple(item for item in segments if item["category_id"] not in self._background),
        )


def open_side(uri: str, storage: Storage) -> DatasetVersion:
    """Opens a dataset's folder, or a file below its versions/.

    Raises:
        ValueError: It is neither.
        StorageError: It cannot be read.
    """
    uri = absolute_uri(uri)
    folder, _, name = uri.rpartition("/")
    if not name.endswith(".json"):
        return DatasetVersion(open_ledger(uri, storage))
    if folder.endswith("/versions"):
        folder = folder.removesuffix("/versions")
    elif name != "manifest.json":
        raise ValueError(f"{uri} is neither a dataset nor a file of its versions/")
    return DatasetVersion(Ledger(folder, read_manifest(storage, uri), storage))


# What became of each object of an image from one version to another.

CHANGES = ("matched", "grown", "shrunk", "appeared", "vanished")


def find_changes(
    a: SideImage, b: SideImage, task: str, *, min_iou: float, tolerance: float
) -> list[dict[str, Any]]:
    """Compares the objects of one image and task.

    Objects are assigned one to one, whatever their categories, so that as many pairs as possible
    have an IoU of at least `min_iou`, and then the sum of IoU is largest
    (`pipeline.evaluation.metrics.matching.assign`). Those left over vanished or appeared.

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


def _runs(image: SideImage, rows: Sequence[AnnotationRow]) -> ColumnRuns:
    texts = pa.array([row["rle"]["counts"] for row in rows], pa.string())
    try:
        return read_column_runs(texts, *image.size_hw)
    except ValueError as error:
        raise ValueError(f"{image.name}: {error}") from None


def _row(
    name: str, task: str, change: str, a: AnnotationRow | None, b: AnnotationRow | None
) -> dict[str, Any]:
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

    def __init__(self, before: DatasetVersion, after: DatasetVersion) -> None:
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
