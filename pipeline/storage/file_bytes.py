"""The bytes of a file that is larger than memory, read where they are sliced."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, BinaryIO

from .bodies import is_listed
from .errors import StorageError
from .remote import range_file
from .uris import local_path

if TYPE_CHECKING:
    from .storage import Storage

BLOCK = 1 << 20
"""Bytes that are read and kept at once: a request costs about what a megabyte costs."""
_KEPT = 32
_AT_ONCE = 16
"""Blocks that one request asks for at most."""
_TRIES = 4
_BUFFER = 1 << 13


class FileBytes:
    """`bytes` of a file or of a stretch of one, of which the last 32 MiB that were read are kept.

    Once `sha256` was asked for, every block that is read again must be what was hashed. Pickles
    as its place; safe to use from many threads.

    Args:
        storage: How the file is reached.
        uri: Where it is.
        size: Bytes, as a listing told.
        offset: First byte, of a stretch; None = the whole file.
        etag: Of the listing: where it can be an MD5, the bytes are held against it.

    Attributes:
        failure: Why bytes could not be read, or "": libraries go on without what they cannot have.
    """

    def __init__(
        self, storage: Storage, uri: str, *, size: int, offset: int | None = None, etag: str = ""
    ) -> None:
        self._storage = storage
        self._uri = uri
        self._size = size
        self._offset = offset
        self._etag = etag if local_path(uri) is None and offset is None else ""
        self._sha256 = ""
        self.failure = ""
        self._digests: list[bytes] = []
        self._open_cache()

    def _open_cache(self) -> None:
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        hidden = ("_blocks", "_lock")
        return {name: value for name, value in self.__dict__.items() if name not in hidden}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open_cache()

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: slice) -> bytes:
        """The bytes of a slice without a step.

        Raises:
            StorageError: They cannot be read, or the file has changed.
        """
        start, stop, _ = place.indices(self._size)
        if start >= stop:
            return b""
        first, last = start // BLOCK, -(-stop // BLOCK)
        parts: list[bytes] = []
        try:
            with self._lock:
                while first + len(parts) < last:
                    parts += self._read(first + len(parts), last)
        except StorageError as error:
            self.failure = str(error)
            raise
        parts[-1] = parts[-1][: stop - (last - 1) * BLOCK]
        parts[0] = parts[0][start - first * BLOCK :]
        return b"".join(parts)

    def open(self) -> BinaryIO:
        """A seekable file over the bytes."""
        return range_file(lambda at, length: self[at : at + length], self._size, block=_BUFFER)

    def sha256(self) -> str:
        """Of all bytes, hex; they are read once for it, a few blocks at a time.

        Raises:
            StorageError: They cannot be read, or are not those of the listing.
        """
        with self._lock:
            seen: set[bytes] = set()
            for _ in range(_TRIES):
                if self._sha256 or self._hash(seen):
                    return self._sha256
        raise StorageError(f"every body that came was another one, none as listed: {self._uri}")

    def _hash(self, seen: set[bytes]) -> bool:
        whole, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        digests: list[bytes] = []
        count = -(-self._size // BLOCK)
        for first in range(0, count, _AT_ONCE):
            for block in self._fetch(first, min(first + _AT_ONCE, count)):
                whole.update(block)
                digests.append(_digest(block))
                if self._etag:
                    md5.update(block)
        if self._offset is None and (there := self._storage.info(self._uri).size) != self._size:
            raise StorageError(
                f"the file has {there} bytes, not {self._size}: {self._uri} (it has changed since "
                "it was listed)"
            )
        if not is_listed(md5.digest(), self._etag, seen):
            return False
        self._sha256, self._digests = whole.hexdigest(), digests
        self._blocks.clear()
        return True

    def _read(self, first: int, last: int) -> list[bytes]:
        """Block `first`, and those behind it that one request brings or that are at hand."""
        if first in self._blocks:
            self._blocks.move_to_end(first)
            return [self._blocks[first]]
        missing = first + 1
        while missing < min(last, first + _AT_ONCE) and missing not in self._blocks:
            missing += 1
        found = self._fetch(first, missing)
        for number, block in enumerate(found, first):
            if self._digests and _digest(block) != self._digests[number]:
                raise StorageError(f"{self._uri} has changed while it was read")
            self._blocks[number] = block
        while len(self._blocks) > _KEPT:
            self._blocks.popitem(last=False)
        return found

    def _fetch(self, first: int, last: int) -> list[bytes]:
        start = first * BLOCK
        length = min(last * BLOCK, self._size) - start
        at = start + (self._offset or 0)
        data = self._storage.read(self._uri, offset=at, length=length, size=length)
        return [data[place : place + BLOCK] for place in range(0, length, BLOCK)]


def _digest(block: bytes) -> bytes:
    return hashlib.blake2b(block, digest_size=16).digest()


Contents = bytes | FileBytes
"""All bytes of a file, in memory or where they lie."""


def sha256_of(contents: Contents) -> str:
    """Of all bytes, hex.

    Raises:
        StorageError: They lie in a file that cannot be read, or that has changed.
    """
    if isinstance(contents, bytes):
        return hashlib.sha256(contents).hexdigest()
    return contents.sha256()


def open_contents(contents: Contents) -> BinaryIO:
    """A seekable file over the bytes."""
    return io.BytesIO(contents) if isinstance(contents, bytes) else contents.open()
