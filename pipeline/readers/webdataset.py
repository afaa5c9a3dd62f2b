"""Tars: members are found by their headers and read by offset, never extracted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from pipeline.storage.errors import StorageError
from pipeline.storage.file_bytes import Contents, FileBytes
from pipeline.storage.storage import Entry
from pipeline.storage.uris import local_path
from schemas.records import ImageRecord

from .container_index import ContainerImages, ContainerIndex, list_containers
from .inventory import Inventory
from .kinds import COMPRESSED_TARS, IMAGE_EXTENSIONS, extension
from .listing import Batch, batch
from .options import ReaderOptions
from .shared_cache import SharedCache
from .sources import Sources, fault_reason
from .tar_headers import compression_of, read_members
from .tar_samples import every_picture, one_a_sample
from .tar_sources import StreamTar, stream_tar, tar_source

_BLOCK = 4 << 20
_CACHE_BYTES = 64 << 20
_STREAMS = 4


class WebDatasetReader:
    """One image a sample (`one_a_sample`), or with the format "tar" one a picture."""

    def __init__(self, sources: Sources, options: ReaderOptions) -> None:
        self.inventory = Inventory()
        self._sources = sources
        self._field = options.column.lower().lstrip(".")
        self._every = options.format == "tar"
        if self._every and self._field:
            raise ValueError("--input-format tar takes every picture: leave --column out")
        self._kept = options.kept
        self._open_caches()

    def __getstate__(self) -> dict[str, Any]:
        hidden = ("_blocks", "_streams", "_compressed")
        return {name: value for name, value in self.__dict__.items() if name not in hidden}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open_caches()

    def _open_caches(self) -> None:
        self._blocks: SharedCache[bytes] = SharedCache(_CACHE_BYTES, len)
        self._streams: SharedCache[StreamTar] = SharedCache(_STREAMS, lambda _: 1)
        self._compressed: dict[str, bool] = {}

    def batches(self) -> Iterator[Batch]:
        """See `pipeline.readers.Reader`. Tars by path, members as they lie in their tar."""
        self.inventory.clear()
        found = False
        tars = self._sources.files("webdataset", self.inventory)
        index = ContainerIndex(self._sources.storage, self._kept, f"{self._every} {self._field}")
        for entry, images in list_containers(tars, self._images, index, self.inventory):
            for rows in images.batches:
                found = True
                yield Batch(entry.uri, entry.token, rows)
        if not found:
            wanted = [self._field] if self._field else [f"KEY{name}" for name in IMAGE_EXTENSIONS]
            raise self._sources.empty([".tar files with", *wanted], self.inventory)

    def list(self) -> Iterator[ImageRecord]:
        """See `pipeline.readers.Reader`."""
        for one in self.batches():
            yield from one.records()

    def read(self, record: ImageRecord) -> bytes:
        """See `pipeline.readers.Reader`. Remote tars are fetched in blocks that threads share."""
        uri, start = record.uri, record.offset
        if record.size == 0:
            return b""
        if self._is_compressed(uri):
            stream = self._streams.get(uri, lambda: stream_tar(self._sources.storage, uri))
            data = stream.at(start, record.size)
        elif local_path(uri) is not None or record.size >= _BLOCK:
            data = self._sources.storage.read(uri, offset=start, length=record.size)
        else:
            data = self._from_blocks(uri, start, start + record.size)
        if len(data) != record.size:
            raise StorageError(f"{uri} has changed: it ends inside {record.file_name}")
        return data

    def open(self, record: ImageRecord) -> Contents:
        """See `pipeline.readers.Reader`. What is compressed is read whole."""
        if record.size <= 0 or self._is_compressed(record.uri):
            return self.read(record)
        storage = self._sources.storage
        return FileBytes(storage, record.uri, size=record.size, offset=record.offset)

    def _from_blocks(self, uri: str, start: int, stop: int) -> bytes:
        storage = self._sources.storage
        first, last = start // _BLOCK, (stop - 1) // _BLOCK
        parts = [
            self._blocks.get(
                (uri, number),
                lambda at=number * _BLOCK: storage.read(uri, offset=at, length=_BLOCK),
            )
            for number in range(first, last + 1)
        ]
        return b"".join(parts)[start - first * _BLOCK : stop - first * _BLOCK]

    def _is_compressed(self, uri: str) -> bool:
        """By its first bytes: a name tells only of those that say so."""
        known = self._compressed.get(uri)
        if known is None:
            if extension(uri) in COMPRESSED_TARS or local_path(uri) is not None:
                start = self._sources.storage.read(uri, length=8)
            else:
                start = self._from_blocks(uri, 0, 8)
            known = self._compressed[uri] = bool(compression_of(start))
        return known

    def _images(self, entry: Entry, stop: threading.Event) -> ContainerImages:
        """The images of one tar; whatever is wrong with it is its reason."""
        try:
            with tar_source(self._sources.storage, entry) as source:
                members = read_members(source, stop)
                if isinstance(source, StreamTar) and source.fault:
                    members.damage = source.fault
        except (OSError, ValueError) as error:
            return ContainerImages(reason=fault_reason(error))
        found = every_picture(members) if self._every else one_a_sample(members, self._field)
        names = [f"{entry.path}/{name}" for name in found.names]
        rows = batch("", "", names, sizes=found.sizes, places=found.offsets).rows
        return ContainerImages([rows] if names else [], found.left_out, found.reason)
