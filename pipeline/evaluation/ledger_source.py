"""One of our own datasets as a side of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.ledger import Ledger, read_part
from schemas.records import TASKS, Status, Task

from .categories import ScoredCategory, Table
from .segments import Segments, make_segments
from .source import ImageEntry

_COLUMNS = ("image_id", "category_id", "iscrowd", "rle", "score")


class LedgerSource:
    """Reads a ledger part by part and keeps one part of annotations in memory.

    Raises:
        ValueError: The dataset has an unknown task.
    """

    kind = "dataset"

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        tasks: dict[str, Task] = {task: task for task in TASKS}
        if ledger.manifest.task not in tasks:
            raise ValueError(f"{ledger.uri} has the unknown task {ledger.manifest.task!r}")
        self.task: Task = tasks[ledger.manifest.task]
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
            name = ledger.manifest.parts[part].name
            table = read_part(ledger.storage, ledger.uri, "annotations", name, _COLUMNS)
            ids = table["image_id"].to_numpy()
            # Rows follow the images' order, which need not be the order of their ids.
            order = np.argsort(ids, kind="stable")
            self._table, self._ids, self._open = table.take(order), ids[order], part
        return self._table
