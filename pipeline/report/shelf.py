"""What a report consists of besides its page: rows, thumbnails in chunks, side files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from pipeline.storage import Storage, join

from .embed import data_script, script_json
from .picture import Picture

CHUNK = 24
"""Thumbnails a side file."""
EMBED_BYTES = 4_000_000
"""Thumbnails inside index.html, so that it is of use without its side files."""
_OURS = re.compile(r"^(full/\d+\.(jpg|js)|data/thumbs-\d{4,}\.js)$")


@dataclass(slots=True)
class Shelf:
    """Collects drawn pictures: rows in memory, thumbnails into the page, then into side files.

    Attributes:
        storage: File access.
        out: Folder of the report.
        entries: The gallery's rows.
        embedded: Leading chunks of thumbnails, script-safe JSON.
        missing: Pictures that were gone.
        files: Names of the side files, relative to `out`.
    """

    storage: Storage
    out: str
    entries: list[list[Any]] = field(default_factory=list)
    embedded: list[str] = field(default_factory=list)
    missing: int = 0
    files: set[str] = field(default_factory=set)
    _chunk: list[dict[str, Any]] = field(default_factory=list)
    _bytes: int = 0
    _chunks: int = 0

    def add(self, picture: Picture) -> None:
        """Takes the next picture in input order; its own files are already written."""
        self.entries.append(picture.entry)
        self.files.add(f"full/{picture.entry[0]}.js")
        if picture.jpeg is None:
            self.missing += 1
        else:
            self.files.add(f"full/{picture.entry[0]}.jpg")
        self._chunk.append(picture.thumb)
        if len(self._chunk) == CHUNK:
            self.finish()

    def finish(self) -> None:
        """Puts away the thumbnails that wait, as a chunk."""
        if not self._chunk:
            return
        text = script_json(self._chunk)
        # Only a leading run of chunks is embedded: the page knows them by their number.
        if len(self.embedded) == self._chunks and (
            not self._chunks or self._bytes + len(text) <= EMBED_BYTES
        ):
            self.embedded.append(text)
            self._bytes += len(text)
        else:
            name = f"data/thumbs-{self._chunks:04d}.js"
            data = data_script(f"thumbs/{self._chunks}", self._chunk)
            self.storage.write(join(self.out, name), data)
            self.files.add(name)
        self._chunks += 1
        self._chunk = []

    def sweep(self) -> None:
        """Removes what an earlier report wrote beside its page and this one did not."""
        for folder in ("data", "full"):
            if not self.storage.is_dir(join(self.out, folder)):
                continue
            stale = [
                entry.uri
                for entry in self.storage.list(join(self.out, folder), recursive=False)
                if _OURS.match(name := f"{folder}/{entry.path}") and name not in self.files
            ]
            for uri in stale:
                self.storage.remove(uri)
