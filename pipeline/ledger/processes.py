"""Work shared by processes of one machine, with results in the order of the work."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 2
"""Pieces of work a process that are given out or waiting to be taken."""

_installed: list[Callable[[Any], Any]] = []
"""In a process of the pool: what it does."""


def processors() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def map_in_order(
    function: Callable[[T], R], work: Iterable[T], *, workers: int, name: str
) -> Iterator[R]:
    """Results of a function, in the order of the work; a bounded number is in memory.

    Args:
        function: Picklable; each process gets it once, with whatever it holds.
        work: Its arguments, picklable; taken as processes become free.
        workers: Processes; 1 = this one.
        name: What the processes do, for messages: "measuring".

    Raises:
        OSError: A process died.
    """
    if workers <= 1:
        yield from map(function, work)
        return
    # Not forked: a fork of a process with threads (S3) may never wake up.
    context = multiprocessing.get_context("spawn")
    pending: deque[Future[Any]] = deque()
    with ProcessPoolExecutor(workers, context, initializer=_install, initargs=(function,)) as pool:
        try:
            for item in work:
                pending.append(pool.submit(_call, item))
                while len(pending) > _AHEAD * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise OSError(
                f"a {name} process died, perhaps for lack of memory; try fewer --workers"
            ) from error
        finally:
            for future in pending:
                future.cancel()


def _install(function: Callable[[Any], Any]) -> None:
    _installed[:] = [function]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # interrupts are the parent's business


def _call(item: Any) -> Any:
    return _installed[0](item)
