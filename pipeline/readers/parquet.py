"""Images in Parquet and Arrow tables: bytes, structs with bytes, lists of these, or URIs."""

from __future__ import annotations

import json
import posixpath
import threading
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pipeline.storage.errors import StorageError
from pipeline.storage.file_bytes import Contents
from pipeline.storage.storage import Entry
from pipeline.storage.uris import absolute_uri, local_path
from schemas.records import ImageRecord

from .column import bare
from .container_index import ContainerImages, ContainerIndex, list_containers
from .inventory import Inventory
from .listing import LISTING, ROWS, Batch, batch, integers, strings
from .options import ReaderOptions
from .shared_cache import SharedCache
from .sources import Sources, fault_reason, open_file
from .table_file import RowGroup, TableFile

_CACHE_BYTES = 512 << 20
_OPEN_FILES = 16


class ParquetReader:
    """One image a row, or one an item where rows hold lists.

    Row groups are read whole, once, and shared by the threads that read them. A row's URI may be
    absolute, an s3:// one, or relative to the folder of its file.
    """

    def __init__(self, sources: Sources, options: ReaderOptions) -> None:
        self.inventory = Inventory()
        self._sources = sources
        self._options = options
        self._open_caches()

    def __getstate__(self) -> dict[str, Any]:
        hidden = ("_files", "_groups")
        return {name: value for name, value in self.__dict__.items() if name not in hidden}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open_caches()

    def _open_caches(self) -> None:
        self._files: SharedCache[TableFile] = SharedCache(_OPEN_FILES, lambda _: 1)
        self._groups: SharedCache[RowGroup] = SharedCache(_CACHE_BYTES, lambda group: group.size)

    def batches(self) -> Iterator[Batch]:
        """See `pipeline.readers.Reader`. Files by path, rows as they lie in their file."""
        self.inventory.clear()
        found = False
        options = f"{self._options.column} {self._options.base64}"
        index = ContainerIndex(self._sources.storage, self._options.kept, options)
        for entry, images in list_containers(self._tables(), self._images, index, self.inventory):
            for rows in images.batches:
                found = True
                yield Batch(entry.uri, entry.token, self._with_tokens(rows))
        if not found:
            raise self._sources.empty([".parquet files with rows"], self.inventory)

    def list(self) -> Iterator[ImageRecord]:
        """See `pipeline.readers.Reader`."""
        for one in self.batches():
            yield from one.records()

    def read(self, record: ImageRecord) -> bytes:
        """See `pipeline.readers.Reader`."""
        if record.row < 0:
            size = record.size if record.size >= 0 else None
            return self._sources.storage.read(record.uri, size=size)
        file = self._file(record.uri)
        number = bisect_right(file.starts, record.row) - 1
        group = self._groups.get((record.uri, number), lambda: file.load(number))
        scalar: Any = group.scalar(record.row - file.starts[number])
        value = file.column.value(scalar.values[record.item] if record.item >= 0 else scalar)
        if isinstance(value, str):
            return self._sources.storage.read(_resolve(value, record.uri))
        return value

    def open(self, record: ImageRecord) -> Contents:
        """See `pipeline.readers.Reader`."""
        if record.row >= 0:
            return self.read(record)
        return open_file(self._sources.storage, record)

    def _tables(self) -> Iterator[Entry]:
        saved = _SavedFolders(self._sources)
        for entry in self._sources.files("parquet", self.inventory):
            if reason := saved.why_not(entry):
                self.inventory.leave(entry.path, reason)
            else:
                yield entry

    def _images(self, entry: Entry, stop: threading.Event) -> ContainerImages:
        """The images of one file by its footer and small columns; what is wrong is its reason."""
        groups, reason = list[pa.RecordBatch](), ""
        try:
            file = self._file(entry.uri, entry.size)
            for number in range(len(file.starts)):
                if stop.is_set():
                    break
                groups.append(_rows(file, number, entry))
        except (OSError, ValueError) as error:
            reason = fault_reason(error)
        table = pa.Table.from_batches(groups, schema=LISTING).combine_chunks()
        batches = [rows for rows in table.to_batches(max_chunksize=ROWS) if rows.num_rows]
        return ContainerImages(batches, reason=reason)

    def _with_tokens(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Rows whose pictures are files of their own, with what these are now. Only a local one is
        asked: a request a row would take longer than the labels, so a remote one changes with the
        table."""
        if rows["uri"].null_count == len(rows):
            return rows
        sizes, tokens = [-1] * len(rows), list[str | None]([None] * len(rows))
        for at, uri in enumerate(rows["uri"].to_pylist()):
            if uri is None or local_path(uri) is None:
                continue
            try:
                found = self._sources.storage.info(uri)
                sizes[at], tokens[at] = found.size, found.token
            except StorageError:  # reading it will say why
                tokens[at] = ""
        rows = rows.set_column(rows.schema.get_field_index("size"), "size", integers(sizes))
        return rows.set_column(rows.schema.get_field_index("token"), "token", strings(tokens))

    def _file(self, uri: str, size: int = -1) -> TableFile:
        storage, options = self._sources.storage, self._options
        return self._files.get(uri, lambda: TableFile(uri, storage, options, size=size))


def _rows(file: TableFile, number: int, entry: Entry) -> pa.RecordBatch:
    """The images of a row group, with the columns of `LISTING`."""
    prefix = f"{entry.path}/".encode("utf-8", "backslashreplace").decode()
    elsewhere = file.column.holds_uris or file.has_no_bytes(number)
    names, uris, places, items = list[str](), list[str | None](), list[int](), list[int]()
    for row, item, said in file.images(number):
        path = said.strip() if said else ""
        outside = elsewhere and path and not path.startswith("data:")
        name = f"{prefix}{row:08d}" + (f"-{item:03d}" if item >= 0 else "")
        if path and not path.startswith("data:"):
            base = bare(path).replace("\\", "/").rstrip("/").rpartition("/")[2]
            name += f"-{base}" if base else ""
        names.append(name)
        uris.append(_resolve(path, entry.uri) if outside else None)
        places.append(-1 if outside else -2 - row)
        items.append(-1 if outside else item)
    return batch("", "", names, uris=uris, places=places, items=items).rows


class _SavedFolders:
    """Which Arrow files belong to a dataset that `save_to_disk` of Hugging Face's datasets wrote:
    its folder may hold caches beside them."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._named: dict[str, frozenset[str] | str | None] = {}

    def why_not(self, entry: Entry) -> str:
        """Why a file is no part of its dataset, or ""."""
        if not entry.uri.endswith(".arrow"):
            return ""
        folder, _, name = entry.uri.rpartition("/")
        if folder not in self._named:
            self._named[folder] = self._read(f"{folder}/state.json")
        named = self._named[folder]
        if isinstance(named, str):
            return named
        return "" if named is None or name in named else "not named by its dataset's state.json"

    def _read(self, uri: str) -> frozenset[str] | str | None:
        storage = self._sources.storage
        if not storage.exists(uri):
            return None
        try:
            state = json.loads(storage.read(uri))
            if state.get("_indices_data_files"):
                return "its dataset is a selection of rows: flatten_indices() before it is saved"
            return frozenset(file["filename"] for file in state["_data_files"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def _resolve(path: str, table_uri: str) -> str:
    if "://" in path or path.startswith("/"):
        return absolute_uri(path)
    scheme, mark, folder = table_uri.rpartition("/")[0].rpartition("://")
    return scheme + mark + posixpath.normpath(f"{folder}/{path}")
