"""Images in Parquet: HF `Image` structs, plain binary columns, or columns of URIs."""

from __future__ import annotations

import json
import posixpath
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.errors import MissingError
from pipeline.storage.storage import Entry
from pipeline.storage.uris import absolute_uri, local_path
from schemas.records import ImageRecord

from .shared_cache import SharedCache
from .sources import IMAGE_EXTENSIONS, Sources

_CACHE_BYTES = 512 << 20
_OPEN_FILES = 16
_BATCH = 256


class ParquetReader:
    """One image a row. Row groups are read whole, once, and shared by the threads that read them.

    A row's URI may be absolute, an s3:// one, or relative to the folder of its Parquet file.
    """

    def __init__(self, sources: Sources, *, column: str = "") -> None:
        self.ignored: Counter[str] = Counter()
        self._sources = sources
        self._column = column
        self._open_caches()

    def __getstate__(self) -> dict[str, Any]:
        hidden = ("_files", "_groups")
        return {name: value for name, value in self.__dict__.items() if name not in hidden}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open_caches()

    def _open_caches(self) -> None:
        self._files: SharedCache[_File] = SharedCache(_OPEN_FILES, lambda _: 1)
        self._groups: SharedCache[_Group] = SharedCache(_CACHE_BYTES, lambda group: group.size)

    def list(self) -> Iterator[ImageRecord]:
        """See `pipeline.readers.Reader`. Files by path, rows as they lie in their file."""
        self.ignored.clear()
        found = False
        for entry in self._sources.files("parquet", self.ignored):
            for record in self._rows(entry):
                found = True
                yield record
        if not found:
            raise self._sources.empty([".parquet files with rows"], self.ignored)

    def read(self, record: ImageRecord) -> bytes:
        """See `pipeline.readers.Reader`."""
        if record.row < 0:
            return self._sources.storage.read(record.uri)
        file = self._file(record.uri)
        number = bisect_right(file.starts, record.row) - 1
        group = self._groups.get((record.uri, number), lambda: file.load(number))
        value = group.value(record.row - file.starts[number])
        if isinstance(value, dict):
            data, value = value["bytes"], value["path"]
            if data is not None:
                return data
        if isinstance(value, str):
            return self._sources.storage.read(_resolve(value, record.uri))
        return value or b""

    def _rows(self, entry: Entry) -> Iterator[ImageRecord]:
        file = self._file(entry.uri)
        for number, start in enumerate(file.starts):
            elsewhere = file.holds_uris or file.has_no_bytes(number)
            for row, path in enumerate(file.paths(number), start):
                name = (path or "").replace("\\", "/").rstrip("/").rpartition("/")[2]
                file_name = f"{entry.path}/{row:08d}" + (f"-{name}" if name else "")
                if elsewhere and path:
                    yield self._pointed_at(_resolve(path, entry.uri), file_name, entry)
                else:
                    yield ImageRecord(file_name, entry.uri, token=entry.token, row=row)

    def _pointed_at(self, uri: str, file_name: str, entry: Entry) -> ImageRecord:
        """A row's picture in a file of its own. Only a local one is asked for its token: a request
        a row would take longer than the labels, so a remote one changes with the table."""
        if local_path(uri) is None:
            return ImageRecord(file_name, uri, token=entry.token)
        try:
            found = self._sources.storage.info(uri)
        except MissingError:
            return ImageRecord(file_name, uri)
        return ImageRecord(file_name, uri, found.size, found.token)

    def _file(self, uri: str) -> _File:
        return self._files.get(uri, lambda: _File(uri, self._sources, self._column))


@dataclass(frozen=True, slots=True)
class _Group:
    """The image column of one row group. In batches: a struct array cannot exceed 2 GiB."""

    batches: list[pa.Array]
    size: int

    def value(self, index: int) -> Any:
        batch = self.batches[index // _BATCH]
        return batch[index % _BATCH].as_py()


class _File:
    """An open Parquet file and its image column. pyarrow's reader is not safe in threads."""

    def __init__(self, uri: str, sources: Sources, column: str) -> None:
        self.uri = uri
        self._lock = threading.Lock()
        try:
            self._parquet = pq.ParquetFile(sources.storage.open(uri), pre_buffer=True)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{uri} is no whole Parquet file: {reason[:200]}") from error
        self._metadata = self._parquet.metadata
        sizes = [self._metadata.row_group(n).num_rows for n in range(self._metadata.num_row_groups)]
        self.starts = list(accumulate(sizes, initial=0))[:-1]
        self.column = self._find_column(column)
        self.type = self._parquet.schema_arrow.field(self.column).type
        self.holds_uris = _is_string(self.type)

    def load(self, number: int) -> _Group:
        """Reads one row group's images."""
        with self._lock:
            batches = [batch.column(0) for batch in self._batches(number, self.column)]
        return _Group(batches, sum(batch.nbytes for batch in batches))

    def paths(self, number: int) -> Iterator[str | None]:
        """The path or URI of every row of a row group, None where there is none; no pixels."""
        rows = self._metadata.row_group(number).num_rows
        if not self.holds_uris and not _is_image_struct(self.type):
            yield from [None] * rows
            return
        name = self.column if self.holds_uris else f"{self.column}.path"
        with self._lock:
            columns = [batch.column(0) for batch in self._batches(number, name)]
        for column in columns:
            values = column if self.holds_uris else column.field("path")
            yield from values.to_pylist()

    def has_no_bytes(self, number: int) -> bool:
        """Whether a row group's images are all without bytes: paths alone, if anything."""
        group = self._metadata.row_group(number)
        for index in range(group.num_columns):
            chunk = group.column(index)
            if chunk.path_in_schema == f"{self.column}.bytes":
                nulls = chunk.statistics.null_count if chunk.statistics else 0
                return nulls == group.num_rows
        return False

    def _batches(self, number: int, column: str) -> Iterator[pa.RecordBatch]:
        return self._parquet.iter_batches(
            batch_size=_BATCH, row_groups=[number], columns=[column], use_threads=False
        )

    def _find_column(self, column: str) -> str:
        schema = self._parquet.schema_arrow
        if column:
            if column not in schema.names:
                raise ValueError(
                    f"{self.uri} has no column {column!r}; it has {', '.join(schema.names)}"
                )
            kind = schema.field(column).type
            if not (_is_image_struct(kind) or _is_binary(kind) or _is_string(kind)):
                raise ValueError(f"{self.uri}: column {column!r} holds {kind}, not images or URIs")
            return column
        for candidates in (
            _hf_images(schema),
            [field.name for field in schema if _is_image_struct(field.type)],
            [field.name for field in schema if _is_binary(field.type)],
            [
                field.name
                for field in schema
                if _is_string(field.type) and self._names_images(field)
            ],
        ):
            if len(candidates) == 1:
                return candidates[0]
            if candidates:
                raise ValueError(
                    f"{self.uri} has several columns of images ({', '.join(candidates)}):"
                    " pass --column NAME"
                )
        raise ValueError(
            f"{self.uri} has no column of images or of their URIs; it has "
            f"{', '.join(f'{field.name}: {field.type}' for field in schema)}; pass --column NAME"
        )

    def _names_images(self, field: pa.Field) -> bool:
        """Whether the first values of a string column end like image files."""
        for number in range(min(1, len(self.starts))):
            batch = next(self._batches(number, field.name), None)
            values = [] if batch is None else batch.column(0).drop_null().to_pylist()
            return bool(values) and all(v.lower().endswith(IMAGE_EXTENSIONS) for v in values)
        return False


def _hf_images(schema: pa.Schema) -> list[str]:
    """Columns that Hugging Face's metadata calls images."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        names = [name for name, feature in features.items() if feature.get("_type") == "Image"]
    except (TypeError, KeyError, ValueError, AttributeError):
        return []
    return [name for name in names if name in schema.names]


def _is_image_struct(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    fields = {kind.field(n).name: kind.field(n).type for n in range(kind.num_fields)}
    return (
        fields.keys() == {"bytes", "path"}
        and _is_binary(fields["bytes"])
        and (_is_string(fields["path"]) or pa.types.is_null(fields["path"]))
    )


def _is_binary(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    )


def _is_string(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_string(kind.value_type)
    return any(
        test(kind)
        for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


def _resolve(path: str, parquet_uri: str) -> str:
    if "://" in path or path.startswith("/"):
        return absolute_uri(path)
    scheme, mark, folder = parquet_uri.rpartition("/")[0].rpartition("://")
    return scheme + mark + posixpath.normpath(f"{folder}/{path}")
