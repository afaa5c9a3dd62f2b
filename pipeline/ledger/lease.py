"""Lease: one writer a dataset. Says who holds it, waits, takes over what is stale."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

from pipeline.errors import ExecutionError
from pipeline.storage.errors import MissingError, StorageError
from pipeline.storage.processes import process_born, process_lives
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.names import printable

FILE = ".lease.json"
"""In the dataset's folder; no listing of a dataset shows it."""
BEAT_S = 10.0
"""The holder writes the file anew so often."""
STALE_S = 60.0
"""A holder on another machine that has not written for so long is taken for dead."""
_POLL_S = 1.0
_LOOKS = 3
_FADES_S = 3.0
"""A process that was killed may take so long to be gone."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who writes a dataset.

    Attributes:
        host: Name of the machine.
        pid: Of the process.
        born: When that process started, in the machine's own count; "" where that is unknown.
        run: Random, of this run.
        since: Seconds of the epoch when it took the lease.
        beat: When it last wrote the file.
    """

    host: str
    pid: int
    born: str
    run: str
    since: float
    beat: float

    @classmethod
    def here(cls) -> Holder:
        """This process."""
        now = time.time()
        pid = os.getpid()
        return cls(socket.gethostname(), pid, process_born(pid), secrets.token_hex(8), now, now)

    @property
    def dead(self) -> bool:
        """Whether it is known to be gone: a process of this machine that is no more."""
        if self.host != socket.gethostname():
            return False
        return not process_lives(self.pid) or process_born(self.pid) != self.born

    def __str__(self) -> str:
        minutes = max(time.time() - self.since, 0) / 60
        return f"{printable(self.host)}, pid {self.pid}, for {minutes:.0f} min"


class Lease:
    """The right to write a dataset, while the block lasts; not taken before `take`.

    On object stores it rests on conditional writes (`If-None-Match`); where a store has none, two
    runs that start within the same second are not told apart, and one must see to it that only
    one runs.

    Args:
        storage: File access.
        dataset: Absolute URI.
        wait: Wait for the other run instead of giving up.
    """

    def __init__(self, storage: Storage, dataset: str, *, wait: bool = False) -> None:
        self._storage = storage
        self._dataset = dataset
        self._uri = join(dataset, FILE)
        self._wait = wait
        self._own: Holder | None = None
        self._ended = threading.Event()
        self._lost = False
        self.after_death = False
        """Whether it was taken over: the run before did not end, it was killed or it crashed."""

    @property
    def run(self) -> str:
        """Of the holder, "" while it is not taken."""
        return self._own.run if self._own is not None else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._own is not None:
            try:
                if self._is_ours():
                    self._storage.remove(self._uri)
            except (StorageError, ValueError) as problem:
                _log.warning("the lease is left behind: %s", problem)
        self._own = None

    def take(self) -> None:
        """Takes the lease, over from a holder that is dead.

        Raises:
            ExecutionError: Another run holds it.
            StorageError: The output cannot be written.
        """
        if self._own is not None:
            return
        own = Holder.here()
        told = 0.0
        while not self._storage.create(self._uri, _bytes(own)):
            holder = self._holder()
            if holder is None or holder.dead or self._stale(holder):
                if self._holder() != holder:  # it lives, or a byte turned over on the way
                    continue
                _log.warning("taking over the lease of a run that is gone: %s", holder)
                self._storage.remove(self._uri)
                self.after_death = holder is not None
                continue
            if not self._wait:
                if self._fades(holder):
                    continue
                raise ExecutionError(
                    f"another run writes {self._dataset} ({holder}); --wait waits for it"
                )
            if time.monotonic() - told > 60 or not told:
                told = time.monotonic()
                _log.warning("waiting for the run that writes %s (%s)", self._dataset, holder)
            time.sleep(_POLL_S)
        self._own = own
        self.check()  # of two that took over at once, the later one's file stands
        threading.Thread(target=self._beat, name="lease", daemon=True).start()

    def check(self) -> None:
        """Sees that the lease is still ours; asked before a version is published.

        Raises:
            ExecutionError: Another run took it over.
        """
        if self._own is not None and (self._lost or not self._is_ours()):
            self._lost = True
            raise ExecutionError(
                f"another run took over {self._dataset} ({self._holder()}): this one was silent "
                "for too long"
            )

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            own = self._own
            if own is None:
                return
            try:
                if not self._is_ours():
                    self._lost = True
                    return
                fresh = Holder(**{**asdict(own), "beat": time.time()})
                self._storage.write(self._uri, _bytes(fresh))
            except (StorageError, ValueError) as error:
                _log.warning("the lease could not be renewed: %s", error)

    def _is_ours(self) -> bool:
        """Whether the file names this run; asked again where it does not: a byte may turn over."""
        for _ in range(_LOOKS):
            holder = self._holder()
            if holder is not None and self._own is not None and holder.run == self._own.run:
                return True
        return False

    def _stale(self, holder: Holder) -> bool:
        """Whether it stopped writing; looked at for a while, as clocks of machines differ."""
        if time.time() - holder.beat < STALE_S:
            return False
        deadline = time.monotonic() + 1.5 * BEAT_S
        while time.monotonic() < deadline:
            time.sleep(_POLL_S)
            if self._holder() != holder:
                return False
        return True

    def _fades(self, holder: Holder) -> bool:
        """Whether a process of this machine goes while we look: the last run was just killed."""
        if holder.host != socket.gethostname():
            return False
        deadline = time.monotonic() + _FADES_S
        while time.monotonic() < deadline:
            if holder.dead or self._holder() is None:
                return True
            time.sleep(0.1)
        return False

    def _holder(self) -> Holder | None:
        """Who holds the lease; None where nobody does, or the file is damaged."""
        try:
            return Holder(**json.loads(self._storage.read(self._uri)))
        except (MissingError, ValueError, TypeError, RecursionError):
            return None


def _bytes(holder: Holder) -> bytes:
    return (json.dumps(asdict(holder)) + "\n").encode()
