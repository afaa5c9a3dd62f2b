"""Errors of a GPU: which end the process, which are of one picture, which are of memory."""

from __future__ import annotations

import pickle

import pytest

from pipeline.engine.device import DeviceLostError, DeviceWatch, GpuShares
from schemas.config.job import ExecutionConfig
from schemas.manifest import Part, ShardReceipt

STICKY = [
    ("CUDA error: an illegal memory access was encountered", True),
    ("CUDA error: device-side assert triggered", True),
    ("CUDA error: unspecified launch failure", True),
    ("NCCL error in: ProcessGroupNCCL.cpp:1, unhandled system error", True),
    ("CUDA error: uncorrectable ECC error encountered", False),
    ("CUDA error: all CUDA-capable devices are busy or unavailable", False),
    ("GPU is lost. Reboot the system to recover this GPU", False),
]


@pytest.mark.parametrize(("text", "blame"), STICKY)
@pytest.mark.parametrize("alone", [True, False])
def test_a_process_that_can_never_compute_again_ends(text, blame, alone):
    with pytest.raises(DeviceLostError) as caught:
        DeviceWatch().failed(RuntimeError(text), alone=alone)
    assert caught.value.blame is blame
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.blame) == (str(caught.value), blame)


def test_a_library_s_failure_counts_when_the_next_picture_meets_it():
    watch = DeviceWatch()
    error = RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")
    watch.failed(error, alone=False)
    watch.failed(error, alone=True)
    watch.succeeded()
    watch.failed(error, alone=True)
    with pytest.raises(DeviceLostError):
        watch.failed(RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED"), alone=True)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2 GiB",
        "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate",
        "shapes do not match",
        "the device name is unknown",
    ],
)
def test_other_errors_are_the_picture_s(text):
    watch = DeviceWatch()
    for _ in range(5):
        watch.failed(RuntimeError(text), alone=True)


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
        (shares(0.75), 1),  # full enough
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
    settled = told.settled(ExecutionConfig(), 4)
    assert (settled.gpus_per_worker, settled.cpus_per_worker) == (0.25, 4)
    assert "25%" in told.told(4)
    assert "4 share" in told.told(4)
