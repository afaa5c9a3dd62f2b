"""A map over threads that keeps order and holds few items at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def bounded_map(
    function: Callable[[S], T], items: Iterable[S], *, threads: int | None = None
) -> Iterator[T]:
    """`map` on threads: results in order, at most two items a thread in flight.

    Args:
        function: Must release the GIL for most of its time to gain anything.
        items: Drawn as results are taken, in the caller's thread.
        threads: None = one a core, at most eight.
    """
    width = threads or min(8, os.cpu_count() or 1)
    waiting: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(width)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 2 * width:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
