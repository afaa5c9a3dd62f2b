"""Workers on one GPU: so many as fill it, where that is worth their start."""

from __future__ import annotations

import pytest

from pipeline.engine.devices.gpu_shares import GpuShares
from schemas.manifest import Part, ShardReceipt


def shares(
    gpu: float, *, waited: float = 0.1, memory: float = 0.03, shards: int = 2, seconds: float = 2
) -> GpuShares:
    """Of 16 processors beside a GPU, told of some shards; `gpu` and `waited` are shares."""
    found = GpuShares(16)
    part = Part("p", 1, 0, {}, {}, {}, "", "", 1)
    first = ShardReceipt("s", "t", "r", part, 1, 0, 60.0)  # a worker's first says nothing
    more = ShardReceipt(
        "s", "t", "r", part, 1, 0, seconds, waited=waited * seconds, gpu=gpu * seconds,
        memory=memory,
    )  # fmt: skip
    for one in [first, *[more] * shards]:
        found.add(one)
    return found


@pytest.mark.parametrize(
    ("told", "number"),
    [
        (shares(0.25), 4),
        (shares(0.05), 8),
        (shares(0.6), 2),
        (shares(0.92), 1),  # full enough
        (shares(0.25, waited=0.8), 1),  # more workers would wait as well
        (shares(0.25, memory=0.4), 2),  # no memory for more
        (shares(0.25, shards=1, seconds=9), 1),  # too little is known
        (shares(0.25, shards=9, seconds=0.1), 1),
        (GpuShares(16), 1),
    ],
)
def test_so_many_share_a_gpu_as_fill_it(told: GpuShares, number: int) -> None:
    assert told.number(1000, workers=1, start_s=8) == number


def test_a_gpu_is_not_shared_for_what_is_done_sooner_than_a_worker_starts() -> None:
    told = shares(0.25)
    assert told.number(5, workers=1, start_s=8) == 1  # 7.5 of 10 s would be won
    assert told.number(6, workers=1, start_s=8) == 4
    assert told.number(6, workers=2, start_s=8) == 1


def test_workers_that_share_a_gpu_share_its_processors() -> None:
    told = shares(0.25)
    assert told.settled(4) == {"gpus_per_worker": 0.25, "cpus_per_worker": 4}
    assert "25%" in told.told(4)
    assert "4 share" in told.told(4)
