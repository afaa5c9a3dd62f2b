"""The driver's loop: which worker does which shard, what a worker's death means.

Pure logic over a small `Crew` of callbacks, so that it is tested without Ray.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pipeline.errors import ExecutionError
from schemas.manifest import ShardReceipt
from schemas.records import ImageRecord

from .prepare import ShardWork

_log = logging.getLogger(__name__)

OnReceipt = Callable[[ShardReceipt], None]

_START_FAILURES = 3
_SINGLE_DEATHS = 2
_WAIT_S = 5.0
_TELL_S = 60.0
FIRST_TIMEOUT_S = 7200.0
"""Of a call while nothing has been measured: the first shard may compile for minutes."""
SHORTEST_TIMEOUT_S = 900.0
GENEROSITY = 20
"""A call may take so many times as long, a picture, as the slowest shard that came through."""


class WorkerLostError(Exception):
    """A call ended without an answer.

    Attributes:
        blame: Whether the work may be the cause (a node that went down is nobody's fault).
        worker_lives: Only a read task died; the worker can be called again.
    """

    def __init__(self, reason: str, *, blame: bool, worker_lives: bool = False) -> None:
        super().__init__(reason)
        self.blame = blame
        self.worker_lives = worker_lives


class Crew(Protocol):
    """What the loop needs of an engine. Workers and calls are opaque, calls are hashable."""

    def capacity(self) -> int:
        """How many workers fit now.

        Raises:
            ExecutionError: None ever will.
        """
        ...

    def ask(self, workers: int) -> None:
        """Tells a cluster that grows and shrinks by itself how many workers have work."""
        ...

    def start(self) -> Any:
        """A new worker, not yet ready."""
        ...

    def ready(self, worker: Any) -> Any:
        """A call that ends when the worker has loaded."""
        ...

    def run(self, worker: Any, work: ShardWork, upcoming: ShardWork | None) -> Any:
        """A call that labels a shard; `upcoming` may be read ahead."""
        ...

    def probe(self, worker: Any, work: ShardWork) -> Any:
        """A call that tries images and writes nothing."""
        ...

    def wait(self, calls: Sequence[Any], timeout_s: float) -> Sequence[Any]:
        """Calls that have ended, at least one unless the time is up."""
        ...

    def result(self, call: Any) -> ShardReceipt | None:
        """The answer of a call that has ended.

        Raises:
            WorkerLostError: There is none and the work may be done again.
            ExecutionError: There is none and never will be.
            StorageError: The output cannot be written.
        """
        ...

    def learn(self, receipt: ShardReceipt, left: int) -> None:
        """Told of a shard that is done, and of how many are not; may change what workers are."""
        ...

    def outdated(self, worker: Any) -> bool:
        """Whether others should take its place once it has nothing to do."""
        ...

    def stop(self, worker: Any) -> None:
        """Ends a worker at once, dead or alive."""
        ...

    def missing(self) -> str:
        """What the cluster lacks for another worker now, for a person."""
        ...


@dataclass(slots=True)
class _Search:
    """A shard that kills its workers, while its images are tried in halves."""

    work: ShardWork
    open: int = 0
    poison: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Item:
    """A call to make: a whole shard, or a probe of some of its images."""

    work: ShardWork
    search: _Search | None = None
    deaths: int = 0
    searched: bool = False


@dataclass(slots=True, eq=False)
class _Slot:
    """A worker, what it does now and what it was told comes next."""

    worker: Any
    item: _Item | None = None
    reserved: _Item | None = None
    since: float = 0.0


class Pool:
    """One call in flight a worker; lost shards go back to the front."""

    def __init__(
        self,
        crew: Crew,
        works: Sequence[ShardWork],
        on_receipt: OnReceipt,
        *,
        workers: int,
        most: int = 0,
        max_crashes: int,
        shard_timeout_s: float = 0.0,
        worker_timeout_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._crew = crew
        self._on_receipt = on_receipt
        self._workers = workers
        self._most = most
        self._max_crashes = max_crashes
        self._shard_timeout_s = shard_timeout_s
        self._worker_timeout_s = worker_timeout_s
        self._clock = clock
        self._slowest_s = 0.0  # a picture
        self.deaths = 0
        self._source = iter(works)
        self._left = len(works)
        self._queue: deque[_Item] = deque()
        self._busy: dict[Any, _Slot] = {}  # call in flight → its worker
        self._idle: list[_Slot] = []
        self._start_failures = 0
        self._alone_since: float | None = None
        self._told = 0.0

    def drive(self) -> None:
        """Until every shard has its receipt.

        Raises:
            ExecutionError: No worker ever fits, or none came for too long.
        """
        while self._left:
            self._renew()
            self._grow()
            for slot in list(self._idle):
                item = slot.reserved or self._take()
                slot.reserved = None
                if item is None:
                    continue  # a later one may have something reserved
                self._idle.remove(slot)
                self._call(slot, item)
            self._shrink()
            done = self._crew.wait(list(self._busy), _WAIT_S)
            for call in done:
                self._settle(call, self._busy.pop(call))
            self._end_overdue()
            self._wait_for_workers()

    def stop(self) -> None:
        """Ends all workers; a shard in flight is lost, the others have their receipts."""
        self._crew.ask(0)
        for slot in [*self._idle, *self._busy.values()]:
            self._crew.stop(slot.worker)
        self._idle.clear()
        self._busy.clear()

    def _started(self) -> bool:
        return bool(self._idle) or any(slot.item is not None for slot in self._busy.values())

    def _wait_for_workers(self) -> None:
        """Says every minute what is missing while nobody works, and gives up in the end."""
        now = self._clock()
        if self._started() or not self._left:
            self._alone_since = None
            return
        if self._alone_since is None:
            self._alone_since = self._told = now
        waited = now - self._alone_since
        if self._worker_timeout_s and waited >= self._worker_timeout_s:
            raise ExecutionError(
                f"no worker was ready within {waited:.0f} s ({self._crew.missing()}); "
                "execution.worker_timeout allows more"
            )
        if now - self._told >= _TELL_S:
            self._told = now
            _log.warning("no worker for %.0f min: %s", waited / 60, self._crew.missing())

    def _end_overdue(self) -> None:
        """Ends workers whose call outlives its time: a picture hangs, or a device does."""
        now = self._clock()
        for call, slot in list(self._busy.items()):
            item = slot.item
            if item is None or now - slot.since < (limit := self._limit(item)):
                continue
            del self._busy[call]
            self._crew.stop(slot.worker)
            if slot.reserved is not None:
                self._queue.append(slot.reserved)
            reason = f"no answer within {limit:.0f} s (execution.shard_timeout)"
            self._lost(item, WorkerLostError(reason, blame=True))

    def _limit(self, item: _Item) -> float:
        if self._shard_timeout_s:
            return self._shard_timeout_s
        if not self._slowest_s:
            return FIRST_TIMEOUT_S
        count = len(item.work.records)
        return max(SHORTEST_TIMEOUT_S, GENEROSITY * self._slowest_s * count)

    def _shrink(self) -> None:
        """Ends workers for which no shard is left: what they hold is free for others."""
        while self._idle and len(self._idle) + len(self._busy) > self._left:
            self._crew.stop(self._idle.pop().worker)

    def _renew(self) -> None:
        """Ends idle workers whose place others are to take."""
        for slot in list(self._idle):
            if self._crew.outdated(slot.worker):
                self._idle.remove(slot)
                self._crew.stop(slot.worker)
                if slot.reserved is not None:
                    self._queue.append(slot.reserved)

    def _grow(self) -> None:
        self._crew.ask(self._left)
        # Asked also where the number is given: what fits nowhere would be waited for without end.
        fit = self._crew.capacity()
        target = min(self._workers or fit, self._most or fit, self._left)
        while len(self._idle) + len(self._busy) < target:
            slot = _Slot(self._crew.start())
            self._busy[self._crew.ready(slot.worker)] = slot

    def _take(self) -> _Item | None:
        if self._queue:
            return self._queue.popleft()
        work = next(self._source, None)
        if work is not None:
            return _Item(work)
        for slot in self._busy.values():  # the tail: nobody waits behind a slow actor
            if slot.reserved is not None:
                item, slot.reserved = slot.reserved, None
                return item
        return None

    def _call(self, slot: _Slot, item: _Item) -> None:
        slot.item, slot.since = item, self._clock()
        if item.search is not None:
            call = self._crew.probe(slot.worker, item.work)
        else:
            # A shard that lost a worker runs alone: what is read ahead must not be blamed on it.
            if not self._queue and not item.deaths:
                work = next(self._source, None)
                slot.reserved = _Item(work) if work is not None else None
            upcoming = slot.reserved.work if slot.reserved else None
            call = self._crew.run(slot.worker, item.work, upcoming)
        self._busy[call] = slot

    def _settle(self, call: Any, slot: _Slot) -> None:
        item, slot.item = slot.item, None
        try:
            receipt = self._crew.result(call)
        except WorkerLostError as error:
            if error.worker_lives:
                self._idle.append(slot)
            else:
                self._crew.stop(slot.worker)
                if slot.reserved is not None:
                    self._queue.append(slot.reserved)
            if item is None:
                self._start_failed(error)
            else:
                self._lost(item, error)
            return
        self._idle.append(slot)
        if item is None:
            self._start_failures = 0
        elif item.search is not None:
            self._cleared(item.search)
        elif receipt is not None:
            self._left -= 1
            took = self._clock() - slot.since
            self._slowest_s = max(self._slowest_s, took / max(len(item.work.records), 1))
            self._on_receipt(receipt)
            self._crew.learn(receipt, self._left)

    def _start_failed(self, error: WorkerLostError) -> None:
        self._start_failures += 1
        _log.warning("a worker died while it started: %s", error)
        if self._start_failures >= _START_FAILURES:
            raise ExecutionError(f"workers die while they start: {error}") from error

    def _lost(self, item: _Item, error: WorkerLostError) -> None:
        item.deaths += error.blame
        self.deaths += 1
        _log.warning(
            "lost the worker of shard %s (%d images), they are done again: %s",
            item.work.shard,
            len(item.work.records),
            error,
        )
        if item.search is not None:
            self._narrow(item, item.search)
        elif item.deaths < self._max_crashes:
            self._queue.appendleft(item)
        elif item.work.poison or item.searched:
            raise ExecutionError(
                f"shard {item.work.shard} kills its workers although none of its images does so "
                "alone: give them more memory or lower model.batch_size"
            )
        else:
            search = _Search(item.work)
            self._split(search, item.work.records)

    def _narrow(self, item: _Item, search: _Search) -> None:
        records = item.work.records
        if len(records) > 1:
            self._split(search, records)
            self._cleared(search)
        elif item.deaths < _SINGLE_DEATHS:
            self._queue.appendleft(item)
        else:
            search.poison.update(record.file_name for record in records)
            self._cleared(search)

    def _split(self, search: _Search, records: tuple[ImageRecord, ...]) -> None:
        middle = max(1, len(records) // 2)
        for half in (records[:middle], records[middle:]):
            if half:
                search.open += 1
                self._queue.append(_Item(replace(search.work, records=half), search))

    def _cleared(self, search: _Search) -> None:
        search.open -= 1
        if search.open:
            return
        if search.poison:
            _log.warning("images that kill workers: %s", ", ".join(sorted(search.poison)))
            done = replace(search.work, poison=frozenset(search.poison))
            self._queue.append(_Item(done))
        else:
            # Nothing died this time: one more full try decides.
            self._queue.append(_Item(search.work, deaths=self._max_crashes - 1, searched=True))
