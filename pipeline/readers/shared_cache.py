"""A bounded cache that many threads share: what is being loaded is waited for, not loaded twice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

V = TypeVar("V")


class SharedCache(Generic[V]):
    """Keeps the values used last, up to `max_bytes`, and always the newest one."""

    def __init__(self, max_bytes: int, size_of: Callable[[V], int]) -> None:
        self._max_bytes = max_bytes
        self._size_of = size_of
        self._bytes = 0
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, Future[V]] = OrderedDict()

    def get(self, key: Hashable, load: Callable[[], V]) -> V:
        """The value of `key`; `load` makes it, in one of the threads that ask at the same time."""
        with self._lock:
            future = self._values.get(key)
            mine = future is None
            if future is None:
                future = self._values[key] = Future()
            self._values.move_to_end(key)
        if mine:
            self._load(key, future, load)
        return future.result()

    def _load(self, key: Hashable, future: Future[V], load: Callable[[], V]) -> None:
        try:
            value = load()
        except BaseException as error:
            with self._lock:
                self._values.pop(key, None)
            future.set_exception(error)
            return
        future.set_result(value)
        with self._lock:
            self._bytes += self._size_of(value)
            for old in list(self._values):
                if self._bytes <= self._max_bytes:
                    break
                if old != key and self._values[old].done():
                    self._bytes -= self._size_of(self._values.pop(old).result())
