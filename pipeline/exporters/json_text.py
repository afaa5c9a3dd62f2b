"""JSON text from Arrow columns, whole columns at a time: no Python object is made for a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

compute: Any = pc  # its functions are made at import time, out of a type checker's sight

_TEXT_BYTES = 2 << 20
_MAX_ROWS = 8_192


def concat(*pieces: pa.Array | str) -> pa.StringArray:
    """Joins columns and constant strings row by row; null where any column is null."""
    return compute.binary_join_element_wise(*pieces, "")


def numbers(column: pa.Array) -> pa.StringArray:
    """Integers as text; float32 as the shortest text that reads back as the same float32.

    Raises:
        ValueError: A value is infinite or not a number: JSON has no word for it.
    """
    floating = pa.types.is_floating(column.type)
    if floating and not compute.all(compute.is_finite(column), min_count=0).as_py():
        raise ValueError("a score is not a finite number; run jobs.validate")
    return compute.cast(column, pa.string())


def quoted(column: pa.Array) -> pa.StringArray:
    """Any text as JSON strings, with quotes."""
    return pa.array([orjson.dumps(text) for text in column.to_pylist()], pa.binary()).cast(
        pa.string()
    )


def rle_escaped(column: pa.Array) -> pa.StringArray:
    """Compressed RLE strings as the inside of JSON strings.

    Their alphabet is ASCII 48…111, so that the backslash is all that JSON wants escaped.

    Raises:
        ValueError: A character is outside that alphabet.
    """
    _, offsets, data = column.buffers()
    if len(column) and data is not None:
        where = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
        text = np.frombuffer(data, np.uint8)[where[0] : where[-1]]
        if len(text) and not (text.min() >= 48 and text.max() <= 111):
            raise ValueError("an RLE string holds a character outside '0'…'o'; run jobs.validate")
    return compute.replace_substring(column, "\\", "\\\\")


def member(name: str, values: pa.StringArray) -> tuple[pa.StringArray | str, ...]:
    """',"name":value' where there is a value, nothing where it is null; for `concat`."""
    if not values.null_count:
        return f',"{name}":', values
    return (compute.fill_null(concat(f',"{name}":', values), ""),)


def items(column: pa.FixedSizeListArray) -> list[pa.StringArray]:
    """The k columns of a fixed-size list of integers as text."""
    flat = column.flatten()
    size = column.type.list_size
    return [numbers(flat.take(pa.array(np.arange(k, len(flat), size)))) for k in range(size)]


def batches(table: pa.Table, text: str) -> Iterator[pa.RecordBatch]:
    """Cuts a table into pieces of bounded size.

    Args:
        table: Any rows.
        text: The column that makes rows long: a string column, or "rle", whose strings count.
    """
    for batch in table.to_batches():
        column = batch.column(text)
        strings = column.field("counts") if pa.types.is_struct(column.type) else column
        ends = np.cumsum(compute.fill_null(compute.binary_length(strings), 0).to_numpy())
        start = 0
        while start < len(batch):
            done = ends[start - 1] if start else 0
            stop = int(np.searchsorted(ends, done + _TEXT_BYTES, "right"))
            stop = min(max(stop, start + 1), start + _MAX_ROWS)
            yield batch.slice(start, stop - start)
            start = stop
