"""One of our own datasets as a side of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.ledger import Ledger
from schemas.records import Status, Task

from .categories import ScoredCategory, Table
from .segments import Segments, make_segments
from .source import ImageEntry

_COLUMNS = ("image_id", "category_id", "iscrowd", "rle", "score")


_SUITED: dict[Task, tuple[Task, ...]] = {
    "semantic": ("semantic", "panoptic"),
    "instance": ("instance", "panoptic"),
    "panoptic": ("panoptic", "instance", "semantic"),
}
"""Task of the other side → what is compared with it, the best first. Of any two tasks one fits."""


class LedgerSource:
    """Reads a ledger part by part and keeps one part of annotations in memory.

    Args:
        ledger: The dataset.
        task: Which of its tasks; None = the only one, or the one that says most.

    Raises:
        ValueError: The dataset does not hold this task.
    """

    kind = "dataset"

    def __init__(self, ledger: Ledger, task: Task | None = None) -> None:
        self._whole = ledger
        # From the end: a panoptic answer says what the two others say.
        self.task: Task = task or ledger.manifest.tasks[-1]
        self._ledger = ledger = ledger.view(self.task)
        self.categories: Table | None = {
            item.id: ScoredCategory(item.id, item.name, item.isthing, item.is_background)
            for item in ledger.categories
        }
        self._entries: list[ImageEntry] = []
        self._where: dict[int, tuple[int, int, int]] = {}
        columns = ("image_id", "file_name", "status", "height", "width")
        for part, table in enumerate(ledger.images(columns)):
            for key, name, status, height, width in zip(
                *(table[column].to_pylist() for column in columns), strict=True
            ):
                # Skipped and failed alike: there is no answer.
                failed = status not in (Status.OK, Status.EMPTY)
                self._entries.append(ImageEntry(key, name, failed))
                self._where[key] = (part, height or 0, width or 0)
        self._open = -1
        self._table: pa.Table | None = None
        self._ids = np.zeros(0, np.int64)

    def suited_to(self, other: Task) -> LedgerSource:
        """The same dataset by that of its tasks that compares best with the other side's."""
        held = self._whole.manifest.tasks
        for task in _SUITED[other]:
            if task in held:
                return self if task == self.task else LedgerSource(self._whole, task)
        return self

    def entries(self) -> Sequence[ImageEntry]:
        """Images in the dataset's order."""
        return self._entries

    def read(self, key: int | str) -> Segments:
        """The annotation rows of one image; size 0×0 if it failed before its size was known."""
        part, height, width = self._where[int(key)]
        table = self._part(part)
        first, end = np.searchsorted(self._ids, [int(key), int(key) + 1])
        rows = table.slice(int(first), int(end - first)).to_pylist()
        return make_segments(
            height,
            width,
            [row["rle"]["counts"].encode("ascii") for row in rows],
            [row["category_id"] for row in rows],
            iscrowd=[row["iscrowd"] for row in rows],
            scores=[row["score"] for row in rows],
        )

    def _part(self, part: int) -> pa.Table:
        if self._table is None or part != self._open:
            ledger = self._ledger
            table = ledger.annotations_of(ledger.manifest.parts[part], _COLUMNS)
            ids = table["image_id"].to_numpy()
            # Rows follow the images' order, which need not be the order of their ids.
            order = np.argsort(ids, kind="stable")
            self._table, self._ids, self._open = table.take(order), ids[order], part
        return self._table
