"""How many workers share a GPU, where the job leaves that to the run."""

from __future__ import annotations

import math

from schemas.manifest import ShardReceipt

from .placement import cpus_beside

MOST_SHARING = 8
"""Workers that share a GPU, at most."""
_FULL = 0.9
"""Share of the time; a GPU that computes so much gains little by another worker."""
_WAITING = 0.7
"""Share of the time; workers that wait for pictures so much gain nothing by others."""
_ENOUGH_S = 3.0
"""Of work that a decision is made upon."""
_ROOM = 0.9
"""Of a GPU's memory, for all workers on it."""


class GpuShares:
    """How many workers share a GPU, by what the first ones have measured.

    A worker begins with a GPU for itself. Where the GPU rests for a tenth of the time, and
    pictures are not what is waited for, further workers fill it: so many as its idle time, its
    memory and the processors beside it allow.

    Args:
        cpus: Beside a GPU; each worker needs one.
    """

    def __init__(self, cpus: float) -> None:
        self._cpus = cpus
        self._shards = 0
        self._seconds = self._busy = self._waited = self._memory = 0.0

    @property
    def busy(self) -> float:
        """Share of the time in which a GPU computed."""
        return self._busy / self._seconds if self._seconds else 0.0

    def add(self, receipt: ShardReceipt) -> None:
        """What a worker measured; nothing in its first shard."""
        if receipt.gpu is not None:
            self._shards += 1
            self._seconds += receipt.seconds
            self._busy += receipt.gpu
            self._waited += receipt.waited
            self._memory = max(self._memory, receipt.memory)

    def number(self, left: int, *, workers: int, start_s: float) -> int:
        """Workers that should share a GPU.

        Args:
            left: Shards that are not done.
            workers: Now at work.
            start_s: Seconds that a worker takes to start: while others take its place the GPU
                does nothing, which the rest of the run has to win back.
        """
        if self._shards < 2 or self._seconds < _ENOUGH_S:
            return 1
        if self.busy >= _FULL or self._waited / self._seconds >= _WAITING:
            return 1
        fit = min(int(self._cpus), MOST_SHARING, int(_ROOM / max(self._memory, 1e-9)))
        number = min(fit, math.ceil(1 / max(self.busy, 1 / MOST_SHARING)))
        left_s = left * self._seconds / self._shards / max(workers, 1)
        after = max(1 / max(number, 1), self.busy)  # as share of the time that it would take
        worth = left_s * (1 - after) >= start_s
        return number if number > 1 and worth else 1

    def told(self, number: int) -> str:
        """A line for a person: so many share a GPU, and why."""
        return (
            f"a worker keeps its GPU busy {self.busy:.0%} of the time: from now on {number} share "
            "one (execution.gpus_per_worker)"
        )

    def settled(self, number: int) -> dict[str, float]:
        """Keys of the section `execution` with so many workers a GPU."""
        cpus = cpus_beside(1 / number, gpus=1, cpus=self._cpus)
        return {"gpus_per_worker": 1 / number, "cpus_per_worker": cpus}
