"""An open Parquet or Arrow file and its column of images, in row groups."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.remote import range_file
from pipeline.storage.storage import Storage
from pipeline.storage.uris import local_path

from .column import ImageColumn, find_column
from .options import ReaderOptions

BATCH = 256
_BUFFER = 1 << 13


@dataclass(frozen=True, slots=True)
class RowGroup:
    """The image column of one row group. In batches: a struct array cannot exceed 2 GiB."""

    batches: list[pa.Array]
    size: int
    step: int

    def scalar(self, index: int) -> pa.Scalar:
        """The value of a row of the group."""
        return self.batches[index // self.step][index % self.step]


class _Table(Protocol):
    schema: pa.Schema
    sizes: list[int]

    def batches(self, number: int, column: str) -> Iterator[pa.RecordBatch]: ...

    def lacks(self, number: int, leaf: str) -> bool: ...


class TableFile:
    """A file of a table, its image column found. pyarrow's readers are not safe in threads.

    Attributes:
        starts: First row of each row group.
        column: The images.

    Args:
        uri: Of the file.
        storage: How it is reached.
        options: Say which column.
        size: Bytes, as a listing told; −1 = to be asked.

    Raises:
        ValueError: It is damaged, or has no one column of images.
        StorageError: It cannot be read.
    """

    def __init__(
        self, uri: str, storage: Storage, options: ReaderOptions, *, size: int = -1
    ) -> None:
        self._lock = threading.Lock()
        try:
            self._table: _Table = (
                _ArrowTable(storage, uri)
                if uri.endswith(".arrow")
                else _ParquetTable(storage, uri, size)
            )
        except (pa.ArrowException, EOFError) as error:
            kind = "Arrow" if uri.endswith(".arrow") else "Parquet"
            reason = " ".join(str(error).split())
            raise ValueError(f"no whole {kind} file: {reason[:200]}") from error
        self.starts = list(accumulate(self._table.sizes, initial=0))[:-1]
        self.rows = sum(self._table.sizes)
        self.column: ImageColumn = find_column(self._table.schema, options, self._first)

    def load(self, number: int) -> RowGroup:
        """Reads one row group's images."""
        arrays = list(self._arrays(number, self.column.name))
        step = len(arrays[0]) if arrays else BATCH
        return RowGroup(arrays, sum(array.nbytes for array in arrays), step)

    def images(self, number: int) -> Iterator[tuple[int, int, str | None]]:
        """(row, item, path or URI) of every image of a row group; item −1 where rows hold no lists.
        No pixels are read but those of lists."""
        column, row = self.column, self.starts[number]
        if not column.listed:
            for path in self._paths(number):
                yield row, -1, path
                row += 1
            return
        for array in self._arrays(number, column.name):
            for at in range(len(array)):
                values = array[at].values if array[at].is_valid else ()
                for item in range(len(values)):
                    yield row, item, self._path_in(values[item])
                row += 1

    def has_no_bytes(self, number: int) -> bool:
        """Whether a row group's images are all without bytes: paths alone, if anything."""
        column = self.column
        return (
            bool(column.data_field)
            and not column.listed
            and self._table.lacks(number, f"{column.name}.{column.data_field}")
        )

    def _paths(self, number: int) -> Iterator[str | None]:
        """The path or URI of every row of a row group, None where there is none; no pixels."""
        column, field = self.column, self.column.path_field
        if column.holds_uris:
            for array in self._arrays(number, column.name):
                yield from array.to_pylist()
        elif field:
            inner = ImageColumn(f"{column.name}.{field}", pa.string())
            for batch in self._read(number, inner.name):
                yield from inner.column_of(batch).to_pylist()
        else:
            yield from [None] * self._table.sizes[number]

    def _path_in(self, scalar: Any) -> str | None:
        if self.column.holds_uris:
            return scalar.as_py()
        field = self.column.path_field
        return scalar[field].as_py() if field and scalar.is_valid else None

    def _arrays(self, number: int, column: str) -> Iterator[pa.Array]:
        for batch in self._read(number, column):
            yield self.column.column_of(batch)

    def _read(self, number: int, column: str) -> list[pa.RecordBatch]:
        with self._lock:
            return list(self._table.batches(number, column))

    def _first(self, name: str) -> list[Any]:
        """The first values of a column."""
        if not self._table.sizes:
            return []
        batch = next(self._table.batches(0, name), None)
        return [] if batch is None else ImageColumn(name, pa.string()).column_of(batch).to_pylist()


class _ParquetTable:
    def __init__(self, storage: Storage, uri: str, size: int) -> None:
        self._file = pq.ParquetFile(_open_file(storage, uri, size), pre_buffer=True)
        self._metadata = self._file.metadata
        self.schema = self._file.schema_arrow
        groups = range(self._metadata.num_row_groups)
        self.sizes = [self._metadata.row_group(number).num_rows for number in groups]

    def batches(self, number: int, column: str) -> Iterator[pa.RecordBatch]:
        return self._file.iter_batches(
            batch_size=BATCH, row_groups=[number], columns=[column], use_threads=False
        )

    def lacks(self, number: int, leaf: str) -> bool:
        group = self._metadata.row_group(number)
        for index in range(group.num_columns):
            chunk = group.column(index)
            if chunk.path_in_schema == leaf:
                nulls = chunk.statistics.null_count if chunk.statistics else 0
                return nulls == group.num_rows
        return False


def _open_file(storage: Storage, uri: str, size: int) -> BinaryIO:
    """Of a remote one no more than what is asked for: between small columns lie the pictures."""
    if size < 0 or local_path(uri) is not None:
        return storage.open(uri)
    return range_file(
        lambda at, n: storage.read(uri, offset=at, length=n, size=n), size, block=_BUFFER
    )


class _ArrowTable:
    """An Arrow IPC file, or the stream that Hugging Face's `save_to_disk` writes.

    A local one is mapped, not read; a remote one is read whole. Arrow takes such a file at its
    word: offsets that lead outside it would end the process, so they are looked at first.
    """

    def __init__(self, storage: Storage, uri: str) -> None:
        path = local_path(uri)
        data: Any = pa.py_buffer(storage.read(uri)) if path is None else None
        source = pa.memory_map(str(path)) if data is None else pa.BufferReader(data)
        if source.read(6) == b"ARROW1":
            reader = pa.ipc.open_file(source)
            self._batches = [reader.get_batch(n) for n in range(reader.num_record_batches)]
        else:
            source.seek(0)
            reader = pa.ipc.open_stream(source)
            self._batches = list(reader)
        for batch in self._batches:
            batch.validate()
        self.schema = reader.schema
        self.sizes = [batch.num_rows for batch in self._batches]

    def batches(self, number: int, column: str) -> Iterator[pa.RecordBatch]:
        batch = self._batches[number]
        top = column if column in batch.schema.names else column.partition(".")[0]
        batch.column(batch.schema.get_field_index(top)).validate(full=True)
        yield batch

    def lacks(self, number: int, leaf: str) -> bool:
        batch = self._batches[number]
        array = ImageColumn(leaf, pa.binary()).column_of(batch)
        return array.null_count == len(array)
