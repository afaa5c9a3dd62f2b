"""Image files in nested folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from schemas.records import ImageRecord

from .sources import IMAGE_EXTENSIONS, Sources


class FolderReader:
    """One image a file; its name is the path below the input folder."""

    def __init__(self, sources: Sources, *, column: str = "") -> None:
        if column:
            raise ValueError(f"a folder of images has no column {column!r}: leave --column out")
        self.ignored: Counter[str] = Counter()
        self._sources = sources

    def list(self) -> Iterator[ImageRecord]:
        """See `pipeline.readers.Reader`."""
        self.ignored.clear()
        found = False
        for entry in self._sources.files("folder", self.ignored):
            found = True
            yield ImageRecord(entry.path, entry.uri, entry.size, entry.token)
        if not found:
            raise self._sources.empty(IMAGE_EXTENSIONS, self.ignored)

    def read(self, record: ImageRecord) -> bytes:
        """See `pipeline.readers.Reader`."""
        return self._sources.storage.read_listed(record.uri, size=record.size, token=record.token)
