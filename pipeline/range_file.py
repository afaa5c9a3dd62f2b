"""A remote object as a seekable file: every read is one ranged request."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO, cast

BLOCK = 1 << 20
"""Bytes fetched at once. A request costs about what a megabyte costs, so reading a block where
a few bytes were asked for is never more than twice too slow."""


class _Ranges(io.RawIOBase):
    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch = fetch
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"seek before the start of the file: {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        data = self._fetch(self._position, wanted)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def readall(self) -> bytes:
        data = self._fetch(self._position, max(self._size - self._position, 0))
        self._position += len(data)
        return data


def range_file(fetch: Callable[[int, int], bytes], size: int, *, block: int = BLOCK) -> BinaryIO:
    """Opens an object of `size` bytes for reading.

    Args:
        fetch: Called as `fetch(offset, length)`; returns the bytes there.
        size: Of the whole object.
        block: Bytes fetched at once for small reads; larger reads are one request each.
    """
    return cast(BinaryIO, io.BufferedReader(_Ranges(fetch, size), block))
