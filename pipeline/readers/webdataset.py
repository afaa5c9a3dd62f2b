"""WebDataset tars: members are found by their headers and read by offset, never extracted."""

from __future__ import annotations

import re
import tarfile
import threading
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Entry
from pipeline.storage.uris import local_path
from schemas.records import ImageRecord

from .shared_cache import SharedCache
from .sources import IMAGE_EXTENSIONS, Sources

# WebDataset's rule: a key ends at the first dot of the base name, the rest is the field.
_KEY = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$", re.DOTALL)
_META = re.compile(r"__[^/]*__($|/)")
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_FIELDS = tuple(name[1:] for name in IMAGE_EXTENSIONS)
_BLOCK = 4 << 20
_CACHE_BYTES = 64 << 20
_TARS_AHEAD = 8


class WebDatasetReader:
    """One image a sample.

    A sample is a run of members that share a key. Where it holds several pictures, the image is
    the field named by `column`, else the first of jpg, jpeg, png, webp, tif, … that it has
    (so "a.jpg" is the image and "a.mask.png" is not), else its only other picture ("a.rgb.png").
    """

    def __init__(self, sources: Sources, *, column: str = "") -> None:
        self.ignored: Counter[str] = Counter()
        self._sources = sources
        self._field = column.lower().lstrip(".")
        self._open_cache()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_blocks"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open_cache()

    def _open_cache(self) -> None:
        self._blocks: SharedCache[bytes] = SharedCache(_CACHE_BYTES, len)

    def list(self) -> Iterator[ImageRecord]:
        """See `pipeline.readers.Reader`. Tars by path, members as they lie in their tar."""
        self.ignored.clear()
        found = False
        for record in self._records():
            found = True
            yield record
        if not found:
            wanted = [self._field] if self._field else [f"KEY{name}" for name in IMAGE_EXTENSIONS]
            raise self._sources.empty([".tar files with", *wanted], self.ignored)

    def read(self, record: ImageRecord) -> bytes:
        """See `pipeline.readers.Reader`. Remote tars are fetched in blocks that threads share."""
        uri, start, stop = record.uri, record.offset, record.offset + record.size
        storage = self._sources.storage
        if local_path(uri) is not None or record.size >= _BLOCK:
            data = storage.read(uri, offset=start, length=record.size)
        elif record.size == 0:
            return b""
        else:
            first, last = start // _BLOCK, (stop - 1) // _BLOCK
            parts = [
                self._blocks.get(
                    (uri, number),
                    lambda at=number * _BLOCK: storage.read(uri, offset=at, length=_BLOCK),
                )
                for number in range(first, last + 1)
            ]
            data = b"".join(parts)[start - first * _BLOCK : stop - first * _BLOCK]
        if len(data) != record.size:
            raise StorageError(f"{uri} has changed: it ends inside {record.file_name}")
        return data

    def _records(self) -> Iterator[ImageRecord]:
        tars = self._sources.files("webdataset", self.ignored)
        if local_path(self._sources.root) is not None:
            for entry in tars:
                yield from self._members(entry)
            return
        # Headers lie scattered, each a round trip: several tars are listed at once, in order.
        stop = threading.Event()
        pool = ThreadPoolExecutor(_TARS_AHEAD, thread_name_prefix="list-tar")
        pending: deque[Future[list[ImageRecord]]] = deque()
        try:
            for entry in tars:
                pending.append(pool.submit(lambda e=entry: list(self._members(e, stop))))
                if len(pending) > _TARS_AHEAD:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)

    def _members(self, entry: Entry, stop: threading.Event | None = None) -> Iterator[ImageRecord]:
        seen: set[str] = set()
        key, fields = "", dict[str, tarfile.TarInfo]()
        for member in _headers(entry, self._sources):
            if stop is not None and stop.is_set():
                return
            match = _KEY.match(member.name)
            hidden = member.name.rpartition("/")[2].startswith(".")
            if not member.isreg() or match is None or hidden or _META.match(member.name):
                continue
            if match[1] != key:
                yield from self._sample(entry, key, fields)
                key, fields = match[1], {}
                if key in seen:
                    raise ValueError(
                        f"{entry.uri}: the members of sample {key!r} are not adjacent"
                        f" ({member.name} comes late): write the tar sorted by name"
                    )
                seen.add(key)
            field = match[2].lower()
            if field in fields:
                raise ValueError(
                    f"{entry.uri}: sample {key!r} has two members {field!r}"
                    f" ({fields[field].name} and {member.name})"
                )
            fields[field] = member
        yield from self._sample(entry, key, fields)

    def _sample(
        self, entry: Entry, key: str, fields: dict[str, tarfile.TarInfo]
    ) -> Iterator[ImageRecord]:
        field = self._image_field(entry, key, fields)
        self.ignored.update(f".{other}" for other in fields if other != field)
        if field is None:
            return
        member = fields[field]
        if member.issparse():
            raise ValueError(f"{entry.uri}: {member.name} is a sparse member, which has no offset")
        # Names of other encodings come as surrogates, which no table can hold.
        name = member.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise ValueError(f"{entry.uri}: member {name} points outside the tar")
        yield ImageRecord(
            file_name="/".join([entry.path, *parts]),
            uri=entry.uri,
            size=member.size,
            token=entry.token,
            offset=member.offset_data,
        )

    def _image_field(
        self, entry: Entry, key: str, fields: dict[str, tarfile.TarInfo]
    ) -> str | None:
        if self._field:
            return self._field if self._field in fields else None
        for name in _FIELDS:
            if name in fields:
                return name
        pictures = [name for name in fields if name.rpartition(".")[2] in _FIELDS]
        if len(pictures) > 1:
            raise ValueError(
                f"{entry.uri}: sample {key!r} has several pictures ({', '.join(pictures)}) and"
                f" a key ends at the first dot: name the field, as in --column {pictures[0]}"
            )
        return pictures[0] if pictures else None


def _headers(entry: Entry, sources: Sources) -> Iterator[tarfile.TarInfo]:
    """Member headers in order; data is skipped by seeking.

    Raises:
        ValueError: Not a tar, compressed, or cut off.
    """
    with sources.storage.open(entry.uri) as file:
        start = file.read(6)
        file.seek(0)
        if start.startswith(_COMPRESSED):
            raise ValueError(
                f"{entry.uri} is compressed, so its members cannot be read by offset:"
                " unpack it to a plain .tar (pictures hardly shrink)"
            )
        try:
            tar: Any = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 (owns nothing)
            while (member := tar.next()) is not None:
                tar.members.clear()  # else every header stays in memory
                yield member
        except tarfile.TarError as error:
            raise ValueError(f"{entry.uri} is no whole tar file: {error}") from error
        # tarfile takes a damaged header for the end; the end is a block of zeros or of nothing.
        file.seek(tar.offset)
        block = file.read(tarfile.BLOCKSIZE)
        if block.strip(b"\0") or len(block) % tarfile.BLOCKSIZE:
            raise ValueError(f"{entry.uri} is no whole tar file: bad header at byte {tar.offset}")
