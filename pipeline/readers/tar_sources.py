"""The bytes of a tar: a mapped file, ranges of a remote one, or a compressed one that streams."""

from __future__ import annotations

import bz2
import gzip
import lzma
import mmap
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any, BinaryIO, cast

import pyarrow as pa

from pipeline.storage.storage import Entry, Storage
from pipeline.storage.uris import local_path

from .tar_headers import TarBytes, compression_of

# A request costs about what a megabyte costs: blocks where members are small, headers alone
# where the next one is far.
_RANGE = 1 << 20
_FIRST = 1 << 16
_HEADER = 1 << 12
_FAR = 1 << 18

_STEP = 1 << 20
_BEHIND = 32 << 20
_BROKEN = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError)
"""What damaged compressed bytes raise, each library in its own way."""


class MappedTar:
    """A local file. Close it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self._size else b""

    def at(self, offset: int, length: int) -> bytes:
        """See `TarBytes`."""
        return self._bytes[offset : offset + length]

    def reaches(self, offset: int) -> bool:
        """See `TarBytes`."""
        return offset <= self._size

    def close(self) -> None:
        """Unmaps it."""
        if not isinstance(self._bytes, bytes):
            self._bytes.close()
        self._file.close()


class RemoteTar:
    """A remote file of a known size, by as few bytes and requests as its members allow."""

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch = fetch
        self._size = size
        self._start = 0
        self._window = b""

    def at(self, offset: int, length: int) -> bytes:
        """See `TarBytes`."""
        length = min(length, self._size - offset)
        if length <= 0:
            return b""
        end = self._start + len(self._window)
        if offset < self._start or offset + length > end:
            near = offset - end < _FAR
            wanted = (_RANGE if self._window else _FIRST) if near else _HEADER
            self._start = offset
            self._window = self._fetch(offset, min(max(wanted, length), self._size - offset))
        begin = offset - self._start
        return self._window[begin : begin + length]

    def reaches(self, offset: int) -> bool:
        """See `TarBytes`."""
        return offset <= self._size


class StreamTar:
    """A compressed tar: read forwards, the last 32 MiB at hand; backwards it begins again.

    Safe to use from many threads, which read one after the other.

    Attributes:
        fault: Why its bytes end where they do, if they are cut or damaged, else "".
    """

    def __init__(self, reopen: Callable[[], BinaryIO]) -> None:
        self._reopen = reopen
        self._lock = threading.Lock()
        self._stream: BinaryIO | None = None
        self._start = 0
        self._window = bytearray()
        self.fault = ""

    def at(self, offset: int, length: int) -> bytes:
        """See `TarBytes`."""
        with self._lock:
            if self._stream is None or offset < self._start:
                self.close()
                self._stream = self._reopen()
                self._start, self._window = 0, bytearray()
            while self._start + len(self._window) < offset + length:
                more = self._more()
                if not more:
                    break
                self._window += more
                drop = min(len(self._window) - _BEHIND, offset - self._start)
                if drop > _STEP:
                    del self._window[:drop]
                    self._start += drop
            begin = offset - self._start
            return bytes(self._window[begin : begin + length])

    def reaches(self, offset: int) -> bool:
        """See `TarBytes`."""
        return offset == 0 or bool(self.at(offset - 1, 1))

    def _more(self) -> bytes:
        if self._stream is None or self.fault:
            return b""
        try:
            # `read1` gives what there is before the bytes that are damaged.
            step = getattr(self._stream, "read1", self._stream.read)
            return step(_STEP)
        except _BROKEN as error:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            self.fault = f"its compressed bytes are cut or damaged: {reason}"
            return b""

    def close(self) -> None:
        """Forgets the stream."""
        if self._stream is not None:
            self._stream.close()
        self._stream = None


@contextmanager
def tar_source(storage: Storage, entry: Entry) -> Iterator[TarBytes]:
    """The bytes of the tar that a listing found.

    Raises:
        StorageError: It cannot be opened.
    """
    with ExitStack() as stack:
        source: MappedTar | RemoteTar
        if local_path(entry.uri) is not None:
            source = stack.enter_context(closing(MappedTar(storage.open(entry.uri))))
        else:
            source = RemoteTar(
                lambda at, n: storage.read(entry.uri, offset=at, length=n, size=n), entry.size
            )
        if compressed := compression_of(source.at(0, 8)):
            yield stack.enter_context(closing(stream_tar(storage, entry.uri, compressed)))
        else:
            yield source


def stream_tar(storage: Storage, uri: str, compressed: str = "") -> StreamTar:
    """A compressed tar as what it unpacks to.

    Raises:
        StorageError: It cannot be read.
    """
    compressed = compressed or compression_of(storage.read(uri, length=8))

    def reopen() -> BinaryIO:
        file: Any = storage.open(uri)
        match compressed:
            case "gzip":
                return cast(BinaryIO, gzip.GzipFile(fileobj=file))
            case "bzip2":
                return cast(BinaryIO, bz2.BZ2File(file))
            case "xz":
                return cast(BinaryIO, lzma.LZMAFile(file))
            case _:
                return pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")

    return StreamTar(reopen)
