"""Tells the rows of augmented copies from those of input pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

PARENT = "parent_image_id"
"""The column of the images table that only copies fill."""


def is_copy(row: Mapping[str, Any]) -> bool:
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
