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

from pipeline.storage import Storage, local_path
from pipeline.storage_errors import explain

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
    with _staged(storage, uri) as file:
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
    with _staged(storage, uri) as file:
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
def _staged(storage: Storage, uri: str) -> Iterator[BinaryIO]:
    """A local file that becomes `uri` when the block ends without an error."""
    target = local_path(uri)
    folder = target.parent if target else Path(tempfile.gettempdir())
    staged = folder / f".{uri.rpartition('/')[2]}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with staged.open("xb", buffering=1 << 20) as file, _plain_malloc():
            yield file
        storage.put_file(staged, uri)
    except OSError as error:
        raise explain(error, uri) from error
    finally:
        with contextlib.suppress(OSError):
            staged.unlink()


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
