"""One of our own datasets as a side of a comparison."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ledger.ledger import Ledger
from pipeline.ledger.locks import is_locked
from pipeline.ledger.views import PARENT, parents_of
from schemas.records import Status, Task

from .categories import ScoredCategory, Table
from .fields import LeftOut
from .source import Flags, Floats, ImageEntry, Ints, Segments

compute: Any = pc  # its functions are made at import time, out of a type checker's sight

_COLUMNS = ("image_id", "category_id", "iscrowd", "rle", "score")


_SUITED: dict[Task, tuple[Task, ...]] = {
    "semantic": ("semantic", "panoptic"),
    "instance": ("instance", "panoptic"),
    "panoptic": ("panoptic", "instance", "semantic"),
}
"""Task of the other side → what is compared with it, the best first. Of any two tasks one fits."""


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Annotation rows, by image."""

    image_id: Ints
    counts: list[bytes]
    category_ids: Ints
    iscrowd: Flags
    scores: Floats


class LedgerSource:
    """Reads a ledger part by part and keeps two parts of annotations in memory.

    Args:
        ledger: The dataset.
        task: Which of its tasks; None = the only one, or the one that says most.
        locked_only: Only images whose labels a person corrected.

    Raises:
        ValueError: The dataset does not hold this task, or no image is locked.
    """

    kind = "dataset"

    def __init__(
        self, ledger: Ledger, task: Task | None = None, *, locked_only: bool = False
    ) -> None:
        self._whole, self._locked_only = ledger, locked_only
        # From the end: a panoptic answer says what the two others say.
        self.task: Task = task or ledger.manifest.tasks[-1]
        self._ledger = ledger = ledger.view(self.task)
        self.categories: Table | None = {
            item.id: ScoredCategory(
                item.id, item.name, item.isthing, item.is_background, item.color
            )
            for item in ledger.categories
        }
        self.left_out = LeftOut(ledger.uri, skip=False)
        self._entries: list[ImageEntry] = []
        ids, where = array("q"), array("i")
        columns = ("image_id", "file_name", "status", "height", "width")
        for part, table in enumerate(ledger.images((*columns, PARENT, "locked"))):
            known = (table[column].to_pylist() for column in columns)
            for key, name, status, height, width, parent, locked in zip(
                *known, parents_of(table).to_pylist(), is_locked(table), strict=True
            ):
                # Skipped and failed alike: there is no answer.
                failed = status not in (Status.OK, Status.EMPTY)
                if parent is None and (locked or not locked_only):  # nobody has a copy's truth
                    self._entries.append(ImageEntry(key, name, failed))
                ids.append(key)
                where.extend((part, height or 0, width or 0))
        if locked_only and not self._entries:
            raise ValueError(f"{ledger.uri} has no locked image: jobs.review brings them")
        order = np.argsort(np.array(ids, np.int64), kind="stable")
        self._ids = np.array(ids, np.int64)[order]
        self._where = np.array(where, np.int32).reshape(-1, 3)[order]
        self._parts: dict[int, _Part] = {}
        self._lock = Lock()

    def __getstate__(self) -> dict[str, Any]:
        """What reading needs: a process that shares the work has its own parts in memory."""
        return {**self.__dict__, "_entries": [], "_parts": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = Lock()

    def suited_to(self, other: Task) -> LedgerSource:
        """The same dataset by that of its tasks that compares best with the other side's."""
        held = self._whole.manifest.tasks
        for task in _SUITED[other]:
            if task in held:
                if task == self.task:
                    return self
                return LedgerSource(self._whole, task, locked_only=self._locked_only)
        return self

    def entries(self) -> Sequence[ImageEntry]:
        """Images in the dataset's order, without augmented copies."""
        return self._entries

    def block(self, key: int | str) -> int:
        """Index of the part that holds the image."""
        return int(self._where[self._row(key), 0])

    def read(self, key: int | str) -> Segments:
        """The annotation rows of one image; size 0×0 if it failed before its size was known."""
        place, height, width = self._where[self._row(key)].tolist()
        with self._lock:
            part = self._part(place)
        first, end = np.searchsorted(part.image_id, [int(key), int(key) + 1]).tolist()
        return Segments(
            height=height,
            width=width,
            counts=tuple(part.counts[first:end]),
            category_ids=part.category_ids[first:end],
            iscrowd=part.iscrowd[first:end],
            scores=part.scores[first:end],
            coco_areas=np.full(end - first, np.nan),
        )

    def _row(self, key: int | str) -> int:
        return int(np.searchsorted(self._ids, int(key)))

    def _part(self, place: int) -> _Part:
        """A part of the annotations; two are kept, since images are read ahead."""
        if place not in self._parts:
            table = self._ledger.annotations_of(self._ledger.manifest.parts[place], _COLUMNS)
            while len(self._parts) > 1:
                del self._parts[min(self._parts)]
            self._parts[place] = _columns(table)
        return self._parts[place]


def _columns(table: pa.Table) -> _Part:
    """Rows by image; those of one image in their order."""
    ids = table["image_id"].to_numpy()
    # Rows follow the images' order, which need not be the order of their ids.
    order = np.argsort(ids, kind="stable")
    table = table.take(order)
    counts = compute.struct_field(table["rle"], "counts").cast(pa.binary())
    return _Part(
        image_id=ids[order],
        counts=counts.to_pylist(),
        category_ids=table["category_id"].to_numpy().astype(np.int64),
        iscrowd=table["iscrowd"].to_numpy().astype(np.bool_),
        scores=table["score"].to_numpy().astype(np.float64),
    )
