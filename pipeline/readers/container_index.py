"""What the listing of each tar and table found, kept so that an unchanged one is not opened."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.storage.errors import MissingError
from pipeline.storage.storage import Entry, Storage
from pipeline.storage.uris import join, local_path
from schemas.containers import Container

from .inventory import Inventory
from .kinds import image_extensions
from .listing import LISTING, batch

_RULES = 2
"""Raise it when the same tar or table would be listed in another way."""
_DIGEST = 32
_AT_ONCE = 16
"""Remote containers that are looked at together: each is asked for little, a round trip a time."""

_Key = tuple[str, str, int, str]


@dataclass(slots=True)
class ContainerImages:
    """The images of one tar or table, in the order of their bytes.

    Attributes:
        batches: With the columns of `LISTING`.
        left_out: (suffix, reason) → members that are no images.
        reason: What is wrong with the container, "" if nothing is.
    """

    batches: list[pa.RecordBatch] = field(default_factory=list)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    reason: str = ""

    def __len__(self) -> int:
        return sum(rows.num_rows for rows in self.batches)


class ContainerIndex:
    """One Arrow file of all containers of an input, by (URI, path, size, token).

    Its last batch is one row, whose name is JSON that says whose batches the others are. What has
    no token, and what could not be read, is always looked at again. An index that is gone or
    damaged costs time, nothing else: its SHA-256 stands before it, since Arrow takes a file at its
    word, and damage would end the process or name other pictures.

    Args:
        storage: File access.
        folder: Where the file is; "" keeps nothing.
        options: What the images of a container depend on beside its bytes and what is installed.
    """

    def __init__(self, storage: Storage, folder: str, options: str) -> None:
        words = " ".join([str(_RULES), options, *image_extensions()])
        name = hashlib.sha256(words.encode()).hexdigest()[:16]
        self._uri = join(folder, f"containers-{name}.arrow") if folder else ""
        self._storage = storage
        self._file: Any = None
        self._kept: dict[_Key, tuple[int, dict[str, Any]]] = {}  # its first batch, what is said
        self._seen: list[tuple[dict[str, Any], int, bool]] = []  # said, first batch, whether fresh
        self._fresh = _Batches()
        self._changed = False
        if self._uri:
            self._open()

    def _open(self) -> None:
        try:
            data = memoryview(self._storage.read(self._uri))
            if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
                raise ValueError("the index is damaged")
            self._file = pa.ipc.open_file(pa.py_buffer(data[_DIGEST:]))
            last = self._file.num_record_batches - 1
            at = 0
            for said in json.loads(self._file.get_batch(last).column(0)[0].as_py()):
                key = said["uri"], said["path"], said["size"], said["token"]
                self._kept[key] = at, said
                at += said["batches"]
            if at != last:
                raise ValueError("the index names other containers than it holds")
        except MissingError:
            self._file = None
        except (ValueError, KeyError, TypeError, OSError):
            self._file, self._kept = None, {}
            self._changed = True

    def get(self, entry: Entry) -> ContainerImages | None:
        """What was found in it when it was listed last; None where it must be opened."""
        found = self._kept.get(_key(entry))
        if found is None or not entry.token:
            return None
        first, said = found
        try:
            return ContainerImages(
                [self._file.get_batch(first + n) for n in range(said["batches"])],
                Counter({(suffix, reason): n for suffix, reason, n in said["left_out"]}),
                said["reason"],
            )
        except (ValueError, KeyError, TypeError, OSError):
            del self._kept[_key(entry)]
            self._changed = True
            return None

    def keep(self, entry: Entry, images: ContainerImages) -> None:
        """Notes what was found in a container."""
        if not self._uri or not entry.token or (images.reason and not len(images)):
            return
        if found := self._kept.get(_key(entry)):
            first, said = found
            self._seen.append((said, first, False))
            return
        said = {
            "uri": entry.uri,
            "path": entry.path,
            "size": entry.size,
            "token": entry.token,
            "batches": len(images.batches),
            "reason": images.reason,
            "left_out": [[*key, files] for key, files in sorted(images.left_out.items())],
        }
        self._seen.append((said, self._fresh.count, True))
        for rows in images.batches:
            self._fresh.write(rows)

    def save(self) -> None:
        """Writes the index of what was noted, if it differs from the one that stands."""
        same = len(self._seen) == len(self._kept) and not any(fresh for *_, fresh in self._seen)
        if not self._uri or (same and not self._changed):
            return
        out, fresh = _Batches(), pa.ipc.open_file(self._fresh.done())
        for said, first, is_fresh in self._seen:
            source = fresh if is_fresh else self._file
            for number in range(first, first + said["batches"]):
                out.write(source.get_batch(number))
        out.write(batch("", "", [json.dumps([said for said, *_ in self._seen])]).rows)
        data = out.done().to_pybytes()
        self._storage.write(self._uri, hashlib.sha256(data).digest() + data)


def _key(entry: Entry) -> _Key:
    return entry.uri, entry.path, entry.size, entry.token


class _Batches:
    """An Arrow file in memory that grows by compressed batches."""

    def __init__(self) -> None:
        self.count = 0
        self._sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._writer = pa.ipc.new_file(self._sink, LISTING, options=options)

    def write(self, rows: pa.RecordBatch) -> None:
        self._writer.write_batch(rows)
        self.count += 1

    def done(self) -> pa.Buffer:
        self._writer.close()
        return self._sink.getvalue()


def list_containers(
    entries: Iterable[Entry],
    look: Callable[[Entry, threading.Event], ContainerImages],
    index: ContainerIndex,
    inventory: Inventory,
) -> Iterator[tuple[Entry, ContainerImages]]:
    """What each container holds, in their order; told to the inventory, and kept.

    Args:
        entries: The containers.
        look: Opens one and says what it holds; once the event is set, nobody wants to know. What is
            remote is looked at in threads, several at a time.
        index: Of those that need not be opened.
        inventory: Told how each ended.
    """
    for entry, images in _looked_at(entries, look, index):
        index.keep(entry, images)
        inventory.leave_all(images.left_out)
        inventory.containers.append(Container.of(entry.uri, len(images), images.reason))
        yield entry, images
    index.save()


def _looked_at(
    entries: Iterable[Entry],
    look: Callable[[Entry, threading.Event], ContainerImages],
    index: ContainerIndex,
) -> Iterator[tuple[Entry, ContainerImages]]:
    stop = threading.Event()
    pending: deque[tuple[Entry, ContainerImages | Future[ContainerImages]]] = deque()
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="list-container")
    try:
        for entry in entries:
            found: ContainerImages | Future[ContainerImages] | None = index.get(entry)
            if found is None:
                is_local = local_path(entry.uri) is not None
                found = look(entry, stop) if is_local else pool.submit(look, entry, stop)
            pending.append((entry, found))
            while pending and (len(pending) > _AT_ONCE or not isinstance(pending[0][1], Future)):
                yield _finished(*pending.popleft())
        while pending:
            yield _finished(*pending.popleft())
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _finished(
    entry: Entry, images: ContainerImages | Future[ContainerImages]
) -> tuple[Entry, ContainerImages]:
    return entry, images.result() if isinstance(images, Future) else images
