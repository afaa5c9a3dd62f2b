"""Parts measured side by side in processes of one machine, in the order of the dataset."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from schemas.records import ImageRecord

from .part import MeasuredPart, MeasureSpec, measure_part

Work = tuple[str, Mapping[str, ImageRecord]]

_AHEAD = 2
"""Parts a process that are given out or waiting to be taken."""


def measure_parts(
    spec: MeasureSpec, work: Iterable[Work], *, workers: int
) -> Iterator[MeasuredPart]:
    """Measures parts; a bounded number is in memory.

    Args:
        spec: How.
        work: Name of each part and where its pictures lie.
        workers: Processes; 1 = this one.

    Raises:
        OSError: A process died.
    """
    if workers <= 1:
        yield from (measure_part(spec, name, records) for name, records in work)
        return
    # Not forked: a fork of a process with threads (S3) may never wake up.
    context = multiprocessing.get_context("spawn")
    pending: deque[Future[MeasuredPart]] = deque()
    with ProcessPoolExecutor(workers, context, initializer=_leave_interrupts_to_parent) as pool:
        try:
            for name, records in work:
                pending.append(pool.submit(measure_part, spec, name, records))
                while len(pending) > _AHEAD * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise OSError(
                "a measuring process died, perhaps for lack of memory; try fewer --workers"
            ) from error
        finally:
            for future in pending:
                future.cancel()


def processors() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
