"""Image files in nested folders."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator

from pipeline.storage.errors import StorageError
from pipeline.storage.file_bytes import Contents, FileBytes
from pipeline.storage.uris import local_path
from pipeline.storage.walk import Page
from schemas.records import ImageRecord

from .inventory import Inventory
from .kinds import IMAGE_EXTENSIONS, NO_PICTURE, extension, kind_of
from .listing import ROWS, Batch, batch
from .options import ReaderOptions
from .sources import Sources, fault_reason

_HEAD = 4096
_ESCAPED = re.compile(r"\\x([89a-f][0-9a-f])")


class FolderReader:
    """One image a file; its name is the path below the input folder."""

    def __init__(self, sources: Sources, options: ReaderOptions) -> None:
        if options.column:
            raise ValueError(
                f"a folder of images has no column {options.column!r}: leave --column out"
            )
        self.inventory = Inventory()
        self._sources = sources
        self._is_picture: Callable[[bytes], bool] | None = options.is_picture

    def batches(self) -> Iterator[Batch]:
        """See `pipeline.readers.Reader`."""
        self.inventory.clear()
        found = False
        waiting = Page([], [], [])
        any_suffix = self._is_picture is not None
        for page in self._sources.pages("folder", self.inventory, any_suffix=any_suffix):
            paths, sizes, tokens = self._pictures(page)
            waiting.paths.extend(paths)
            waiting.sizes.extend(sizes)
            waiting.tokens.extend(tokens)
            if len(waiting.paths) >= ROWS:
                found = True
                yield self._batch(waiting)
                waiting = Page([], [], [])
        if waiting.paths:
            found = True
            yield self._batch(waiting)
        if not found:
            raise self._sources.empty(IMAGE_EXTENSIONS, self.inventory)

    def list(self) -> Iterator[ImageRecord]:
        """See `pipeline.readers.Reader`."""
        for one in self.batches():
            yield from one.records()

    def read(self, record: ImageRecord) -> bytes:
        """See `pipeline.readers.Reader`."""
        size, token = record.size if record.size >= 0 else None, record.token
        return self._sources.storage.read(_real(record.uri), size=size, etag=token)

    def open(self, record: ImageRecord) -> Contents:
        """See `pipeline.readers.Reader`."""
        if record.size < 0:
            return self.read(record)
        uri, storage = _real(record.uri), self._sources.storage
        return FileBytes(storage, uri, size=record.size, etag=record.token)

    def _batch(self, page: Page) -> Batch:
        names = page.paths
        if not all(map(str.isascii, names)):
            names = [_escaped(name) for name in names]
        return batch(self._sources.root, "", names, sizes=page.sizes, tokens=page.tokens)

    def _pictures(self, page: Page) -> Page:
        """The page without files that are no pictures by suffix and, if asked for, by content."""
        if self._is_picture is None:
            return page
        storage, root = self._sources.storage, self._sources.root.rstrip("/")
        keep = []
        for at, path in enumerate(page.paths):
            reason = ""
            if not kind_of(extension(path)):
                try:
                    known = self._is_picture(storage.read(f"{root}/{path}", length=_HEAD))
                    reason = "" if known else f"{NO_PICTURE} by its content"
                except StorageError as error:  # a link that leads nowhere, a closed file
                    fault_reason(error)
                    reason = "it cannot be read"
            if reason:
                self.inventory.leave(path, reason)
            else:
                keep.append(at)
        return page.only(keep)


def _escaped(name: str) -> str:
    """Bytes of a name that are not UTF-8 as \\xhh: no table can hold them."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _real(uri: str) -> str:
    """The path that `_escaped` came from, where the escaped one is not itself a file."""
    path = local_path(uri)
    if path is None or not _ESCAPED.search(uri) or path.exists():
        return uri
    raw = re.sub(rb"\\x([89a-f][0-9a-f])", lambda m: bytes.fromhex(m[1].decode()), uri.encode())
    return os.fsdecode(raw)
