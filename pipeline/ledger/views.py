"""The rows of one task of a dataset that holds several."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.categories import Categories
from schemas.records import Status, Task
from schemas.rows import ImageRow

compute: Any = pc  # its functions are made at import time, out of a type checker's sight

SEEN_IN = ("image_id", "category_id", "task")
"""Columns of the annotations that `images_of_task` looks at."""


def annotations_of_task(annotations: pa.Table, task: Task) -> pa.Table:
    """The rows of a task.

    Args:
        annotations: With the column task.
        task: Which.
    """
    return annotations.filter(compute.equal(annotations["task"], task))


def images_of_task(
    images: pa.Table, annotations: pa.Table, task: Task, categories: Categories
) -> pa.Table:
    """Image rows as if only this task had been asked for: status and num_segments follow it.

    Args:
        images: With image_id and perhaps status and num_segments.
        annotations: Of the same images, with the columns `SEEN_IN`.
        task: Which.
        categories: Of the dataset.
    """
    own = annotations_of_task(annotations, task)
    ids, owner = images["image_id"].to_numpy(), own["image_id"].to_numpy()
    background = [item.id for item in categories if item.is_background]
    something = ~np.isin(own["category_id"].to_numpy(), background)
    counts = _how_many(ids, owner)
    found = np.isin(ids, owner[something])
    columns: dict[str, Any] = {}
    if "num_segments" in images.column_names:
        columns["num_segments"] = pa.array(counts.astype(np.int32))
    if "status" in images.column_names:
        ok, empty = str(Status.OK), str(Status.EMPTY)
        looked = compute.is_in(images["status"], pa.array([ok, empty]))
        status = compute.if_else(pa.array(found), ok, empty)
        columns["status"] = compute.if_else(looked, status, images["status"])
    for name, values in columns.items():
        place = images.column_names.index(name)
        images = images.set_column(place, images.schema.field(name), values)
    return images


def _how_many(ids: npt.NDArray[np.int64], owner: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How often each of `ids` is in `owner`."""
    values, counts = np.unique(owner, return_counts=True)
    if not len(values):
        return np.zeros(len(ids), np.int64)
    place = np.minimum(np.searchsorted(values, ids), len(values) - 1)
    return np.where(values[place] == ids, counts[place], 0)


# Tells the rows of augmented copies from those of input pictures.

PARENT: Final = "parent_image_id"
"""The column of the images table that only copies fill."""


def is_copy(row: ImageRow) -> bool:
    """Whether an image row is a copy; False for all rows of schema versions 1 and 2."""
    return row.get(PARENT) is not None


def parents_of(images: pa.Table) -> pa.ChunkedArray:
    """The column of parents; nulls for a table of schema version 1 or 2."""
    if PARENT in images.column_names:
        return images[PARENT]
    return pa.chunked_array([pa.nulls(len(images), pa.int64())])


def without_copies(images: pa.Table) -> pa.Table:
    """The image rows of input pictures; the table itself where it holds no copies."""
    parents = parents_of(images)
    return images if parents.null_count == len(images) else images.filter(parents.is_null())
