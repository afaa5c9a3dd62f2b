"""Errors of a GPU: which end the process, which are of one picture, which are of memory."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from pipeline.engine.device import (
    CompileChoice,
    DeviceLostError,
    DeviceWatch,
    GpuShares,
    compile_choice,
    compile_folder,
)
from pipeline.storage.storage import Storage
from schemas.config.job import StorageConfig
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


class Model:
    """Segments a batch in a second while it is new, then in `batch_s`, by a clock of its own."""

    def __init__(self, batch_s: float) -> None:
        self.batch_s = batch_s
        self.now = 0.0
        self.calls = 0

    def segment(self) -> None:
        self.calls += 1
        self.now += 1.0 if self.calls < 3 else self.batch_s

    def clock(self) -> float:
        return self.now


@pytest.fixture
def storage() -> Storage:
    return Storage(StorageConfig())


@pytest.mark.parametrize(
    ("images", "image_s", "warm", "compiled"),
    [
        (30_000, 0.010, False, True),  # wins 75 s, costs 45
        (10_000, 0.010, False, False),  # wins 25
        (10_000, 0.010, True, True),  # costs 8
        (100, 0.010, True, False),
        (10_000, 0.050, False, True),
    ],
)
def test_compiling_is_chosen_where_it_pays(
    storage: Storage, tmp_path: Path, images: int, image_s: float, warm: bool, compiled: bool
) -> None:
    uri, model = compile_choice(str(tmp_path), "f00d"), Model(8 * image_s)
    choice = CompileChoice(storage, uri, clock=model.clock)
    assert choice.settle(model.segment, pictures=8, images=images, warm=warm) is compiled
    assert f"{images} images a worker, {1000 * image_s:.1f} ms each" in choice.told
    assert ("not compiled" in choice.told) is not compiled
    assert model.calls == 3


def test_what_one_worker_chose_holds_for_all_of_the_run(storage: Storage, tmp_path: Path) -> None:
    uri, quick, slow = compile_choice(str(tmp_path), "f00d"), Model(0.01), Model(5.0)
    first = CompileChoice(storage, uri, clock=quick.clock)
    assert first.settle(quick.segment, pictures=8, images=1000, warm=False) is False
    second = CompileChoice(storage, uri, clock=slow.clock)
    assert second.settle(slow.segment, pictures=8, images=1000, warm=False) is False
    assert (second.told, slow.calls) == ("", 0)
    # Another that had begun to measure before the first had written:
    late = CompileChoice(storage, uri, clock=slow.clock)
    read = late._read
    late._read = lambda: read() if slow.calls else None
    assert late.settle(slow.segment, pictures=8, images=1000, warm=False) is False
    assert (late.told, slow.calls) == ("", 3)


def test_a_model_that_fails_decides_nothing(storage: Storage, tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("x")

    choice = CompileChoice(storage, compile_choice(str(tmp_path), "f00d"))
    assert choice.settle(fail, pictures=8, images=10**6, warm=True) is None
    assert not list(tmp_path.iterdir())


def test_each_model_has_a_folder_for_its_code(tmp_path: Path) -> None:
    assert compile_folder("", "abc") is None
    assert compile_folder(str(tmp_path), "ab" * 32) == tmp_path / ("ab" * 8)
    assert compile_folder(str(tmp_path), "") == tmp_path / "weightless"
