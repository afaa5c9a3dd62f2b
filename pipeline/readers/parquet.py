"""Images in Parquet and Arrow tables: bytes, structs with bytes, lists of these, or URIs."""

from __future__ import annotations

import json
import posixpath
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

from pipeline.storage.errors import StorageError
from pipeline.storage.file_bytes import Contents
from pipeline.storage.storage import Entry
from pipeline.storage.uris import absolute_uri, local_path
from schemas.containers import Container
from schemas.records import ImageRecord

from .column import bare
from .inventory import Inventory
from .listing import Batch, batches_of
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
        return batches_of(self.list())

    def list(self) -> Iterator[ImageRecord]:
        """See `pipeline.readers.Reader`."""
        self.inventory.clear()
        found = False
        saved = _SavedFolders(self._sources)
        for entry in self._sources.files("parquet", self.inventory):
            if reason := saved.why_not(entry):
                self.inventory.leave(entry.path, reason)
                continue
            images, reason = 0, ""
            try:
                for record in self._rows(entry):
                    found = True
                    images += 1
                    yield record
            except (OSError, ValueError) as error:
                reason = fault_reason(error)
            self.inventory.containers.append(Container.of(entry.uri, images, reason))
        if not found:
            raise self._sources.empty([".parquet files with rows"], self.inventory)

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

    def _rows(self, entry: Entry) -> Iterator[ImageRecord]:
        file = self._file(entry.uri)
        for number, start in enumerate(file.starts):
            elsewhere = file.column.holds_uris or file.has_no_bytes(number)
            row = start
            for item, path in file.images(number):
                if item != -2:
                    yield self._record(entry, row, item, path, elsewhere)
                row += item < 0

    def _record(
        self, entry: Entry, row: int, item: int, path: str | None, elsewhere: bool
    ) -> ImageRecord:
        path = (path or "").strip()
        if path.startswith("data:"):
            path, elsewhere = "", False
        base = bare(path).replace("\\", "/").rstrip("/").rpartition("/")[2]
        name = f"{entry.path}/{row:08d}"
        name += (f"-{item:03d}" if item >= 0 else "") + (f"-{base}" if base else "")
        name = name.encode("utf-8", "backslashreplace").decode()
        if elsewhere and path:
            return self._pointed_at(_resolve(path, entry.uri), name, entry)
        return ImageRecord(name, entry.uri, token=entry.token, row=row, item=item)

    def _pointed_at(self, uri: str, file_name: str, entry: Entry) -> ImageRecord:
        """A row's picture in a file of its own. Only a local one is asked for its token: a request
        a row would take longer than the labels, so a remote one changes with the table."""
        if local_path(uri) is None:
            return ImageRecord(file_name, uri, token=entry.token)
        try:
            found = self._sources.storage.info(uri)
        except StorageError:  # reading it will say why
            return ImageRecord(file_name, uri)
        return ImageRecord(file_name, uri, found.size, found.token)

    def _file(self, uri: str) -> TableFile:
        return self._files.get(uri, lambda: TableFile(uri, self._sources.storage, self._options))


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
