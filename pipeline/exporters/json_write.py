"""A large JSON file written as a stream: never whole in memory, published in one step."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.storage.errors import explain
from pipeline.storage.storage import Storage
from pipeline.storage.uris import local_path

# JSON text from Arrow columns, whole columns at a time: no Python object is made for a row.

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


def batches(table: pa.Table, text: str, rows: int = _MAX_ROWS) -> Iterator[pa.RecordBatch]:
    """Cuts a table into pieces of bounded size.

    Args:
        table: Any rows.
        text: The column that makes rows long: a string column, or "rle", whose strings count.
        rows: Of a piece, at most.
    """
    for batch in table.to_batches():
        column = batch.column(text)
        strings = column.field("counts") if pa.types.is_struct(column.type) else column
        ends = np.cumsum(compute.fill_null(compute.binary_length(strings), 0).to_numpy())
        start = 0
        while start < len(batch):
            done = ends[start - 1] if start else 0
            stop = int(np.searchsorted(ends, done + _TEXT_BYTES, "right"))
            stop = min(max(stop, start + 1), start + rows)
            yield batch.slice(start, stop - start)
            start = stop


END = ",\n"
"""What every entry ends with; the last one's is left out."""


def write_object(
    storage: Storage,
    uri: str,
    head: Mapping[str, Any],
    lists: Mapping[str, Iterable[pa.StringArray]],
) -> dict[str, int]:
    """Writes {head…, "key": [entries…], …}, one entry a line.

    Args:
        storage: File access.
        uri: Of the file.
        head: Small values, written first, each on a line of its own.
        lists: key → pieces of entries, each entry the JSON text of one value and `END`.

    Returns:
        key → entries written.

    Raises:
        StorageError: It cannot be written; what was there before is still there.
    """
    written: dict[str, int] = {}
    with staged(storage, uri) as file:
        file.write(b"{")
        for key, value in head.items():
            file.write(orjson.dumps(key) + b":" + orjson.dumps(value) + b",\n")
        for index, (key, pieces) in enumerate(lists.items()):
            file.write((b",\n" if index else b"") + orjson.dumps(key) + b":")
            written[key] = _write_entries(file, pieces)
        file.write(b"}\n")
    return written


def write_list(storage: Storage, uri: str, pieces: Iterable[pa.StringArray]) -> int:
    """Writes a bare list of such entries, one a line; `[]` where there is none. Returns how many.

    Raises:
        StorageError: It cannot be written; what was there before is still there.
    """
    with staged(storage, uri) as file:
        count = _write_entries(file, pieces)
        file.write(b"\n")
    return count


def _write_entries(file: BinaryIO, pieces: Iterable[pa.StringArray]) -> int:
    count = 0
    file.write(b"[")
    for piece in pieces:
        if not len(piece):
            continue
        file.write(END.encode() if count else b"\n")
        count += len(piece)
        # The column's own memory is the text of all its rows, one after the other.
        _, offsets, data = piece.buffers()
        where = np.frombuffer(offsets, np.int32)[piece.offset : piece.offset + len(piece) + 1]
        file.write(memoryview(data)[where[0] : where[-1] - len(END)])
    file.write(b"\n]" if count else b"]")
    return count


@contextlib.contextmanager
def staged(storage: Storage, uri: str) -> Iterator[BinaryIO]:
    """A local file that becomes `uri` when the block ends without an error."""
    with staged_file(storage, uri) as file, _plain_malloc():
        yield file


@contextlib.contextmanager
def staged_file(storage: Storage, uri: str) -> Iterator[BinaryIO]:
    """The same for blocks that do not end in the order in which they began."""
    target = local_path(uri)
    folder = target.parent if target else Path(tempfile.gettempdir())
    local = folder / f".{uri.rpartition('/')[2]}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with local.open("xb", buffering=1 << 20) as file:
            yield file
        storage.put_file(local, uri)
    except OSError as error:
        raise explain(error, uri) from error
    finally:
        with contextlib.suppress(OSError):
            local.unlink()


@contextlib.contextmanager
def _plain_malloc() -> Iterator[None]:
    """Arrow takes memory from malloc, which gives pages back, instead of from mimalloc, which
    keeps them: a third of the peak memory at the same speed (bench/coco_json.py)."""
    pool = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(pool)
