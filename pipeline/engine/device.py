"""A worker's device: how many share a GPU, whether compiling pays, what an error of it means.

An error is of one picture, or of the process, which can never compute again.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import ExecutionError
from pipeline.storage.errors import MissingError
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.manifest import ShardReceipt

_PROCESS_LOST = re.compile(
    r"illegal memory access|device-side assert|unspecified launch failure|misaligned address"
    r"|illegal instruction|launch timed out|hardware stack error|invalid program counter"
    r"|context is destroyed|driver shutting down|illegal address"
    r"|\bNCCL\b|ProcessGroupNCCL",
    re.IGNORECASE,
)
_DEVICE_LOST = re.compile(
    r"uncorrectable ECC|ECC error|device(?:\(s\) is/are| is) (?:busy|lost|unavailable)"
    r"|CUDA-capable devices are busy|CUDA-capable device\(s\)|no CUDA-capable device"
    r"|GPU is lost|fallen off the bus"
    r"|system not yet initialized|invalid device ordinal",
    re.IGNORECASE,
)
_LIBRARY = re.compile(r"\bcuDNN\b|CUDNN_STATUS|cuBLAS|CUBLAS_STATUS|cuSOLVER|CUSOLVER_STATUS", re.I)
_MEMORY = re.compile(r"out of memory|ALLOC_FAILED", re.IGNORECASE)


def resolve_device(device: str, gpus: float | None, *, reproducible: bool = False) -> str:
    """ "auto" becomes "cuda" for a worker that holds a GPU, else "cpu".

    Raises:
        ExecutionError: It is a GPU, and the job asks for `execution.reproducible`.
    """
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if reproducible:
        _refuse_gpu(device)
    return device


def cpus_beside(share: float, *, gpus: float, cpus: float) -> float:
    """CPUs of a worker that holds `share` of the `gpus` of a machine or cluster of `cpus`.

    Beside a GPU one core is not enough to read and decode; more than eight are not used.
    """
    return min(8.0, max(1.0, cpus * share // max(gpus, 1)))


INSTRUCTIONS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",  # the one branch that MKL takes on every maker's processors
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
"""What `execution.reproducible` sets before torch is imported. AVX2 is what x86 processors have had
since 2013; sums of several threads are parted by how many there are."""


def hold_instructions(device: str) -> None:
    """Sets `INSTRUCTIONS` in this process.

    Raises:
        ExecutionError: The device is no CPU, or torch is loaded already under other settings.
    """
    _refuse_gpu(device)
    if "torch" in sys.modules and any(os.environ.get(k) != v for k, v in INSTRUCTIONS.items()):
        wanted = " ".join(f"{key}={value}" for key, value in INSTRUCTIONS.items())
        raise ExecutionError(
            "execution.reproducible: torch was loaded before it could be told: leave out "
            f"execution.inline, or start Python with {wanted}"
        )
    os.environ.update(INSTRUCTIONS)


def _refuse_gpu(device: str) -> None:
    if not device.startswith("cpu"):
        raise ExecutionError(
            f"execution.reproducible holds CPUs alone, and a worker would run on {device!r}: set "
            "model.device = 'cpu'"
        )


GAIN = 0.25
"""Of a picture's time on the GPU that compiling saves: 23 to 30 % (docs/performance.md)."""
COLD_S, WARM_S = 45.0, 8.0
"""Until a compiled model answers: with nothing built before, and with its code on disk."""


class CompileChoice:
    """Whether the model of a run is compiled (`model.compile = "auto"`), decided once.

    The first worker that has measured leaves the answer beside the receipts. The others, and a run
    that goes on where this one was killed, do as it says: no label depends on a clock of its own.

    Args:
        storage: File access.
        uri: Of the answer, as `compile_choice` gives it.
        clock: Seconds.

    Attributes:
        told: A line for a person, "" where another worker decided.
    """

    def __init__(
        self, storage: Storage, uri: str, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._storage = storage
        self._uri = uri
        self._clock = clock
        self.told = ""

    def settle(
        self, segment: Callable[[], object], *, pictures: int, images: int, warm: bool
    ) -> bool | None:
        """The answer; measures only where nobody has. None where the model failed.

        Args:
            segment: Labels some pictures with the model as it is; nothing comes of its answer.
            pictures: How many.
            images: That a worker has to do.
            warm: The model was compiled before, and its code is on disk.

        Raises:
            StorageError: The dataset cannot be read or written.
        """
        standing = self._read()
        if standing is not None:
            return standing
        try:
            for _ in range(2):  # what is new to a model takes longer
                segment()
            started = self._clock()
            segment()
        except Exception:  # found again where one picture's error is told from the device's
            return None
        image_s = (self._clock() - started) / pictures
        compiled = images * image_s * GAIN > (WARM_S if warm else COLD_S)
        if not self._storage.create(self._uri, json.dumps({"compile": compiled}).encode()):
            return bool(self._read())
        self.told = (
            f"the model is {'' if compiled else 'not '}compiled: {images} images a worker, "
            f"{1000 * image_s:.1f} ms each (model.compile)"
        )
        return compiled

    def _read(self) -> bool | None:
        try:
            return json.loads(self._storage.read(self._uri))["compile"] is True
        except (MissingError, ValueError, KeyError, TypeError):
            return None


def compile_folder(cache: str, weights_sha256: str) -> Path | None:
    """Where compiled code of a model is kept; None = where PyTorch puts it.

    Args:
        cache: `execution.compile_cache`.
        weights_sha256: Of the model, "" where it has none.
    """
    return Path(cache) / (weights_sha256[:16] or "weightless") if cache else None


def compile_choice(dataset: str, run: str) -> str:
    """URI of what was decided for a run with this fingerprint; there until it has published."""
    return join(dataset, "receipts", f"compile-{run}.json")


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


class DeviceLostError(RuntimeError):
    """This process cannot compute any more: its shard is to be done by another one.

    Attributes:
        blame: Whether a picture may have caused it; a broken device is no picture's fault.
    """

    def __init__(self, reason: str, *, blame: bool = True) -> None:
        super().__init__(reason)
        self.blame = blame

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (str(self), self.blame)


class DeviceWatch:
    """Tells errors of a picture from those that every further picture would meet as well.

    After an illegal address CUDA answers every call of the process with the same error: without
    this, the rest of a shard would become rows of `model_error`. A failure of cuDNN or cuBLAS may
    be of one shape alone, so it counts when the next picture meets it too.
    """

    def __init__(self) -> None:
        self._library_failures = 0

    def succeeded(self) -> None:
        """A batch came through."""
        self._library_failures = 0

    def failed(self, error: BaseException, *, alone: bool) -> None:
        """A batch did not.

        Args:
            error: Of the model.
            alone: It was a single picture.

        Raises:
            DeviceLostError: No picture will come through in this process.
        """
        text = f"{type(error).__name__}: {error}"
        if _MEMORY.search(text):
            return
        if _DEVICE_LOST.search(text):
            raise DeviceLostError(_line(text), blame=False) from error
        if _PROCESS_LOST.search(text) or type(error).__name__ == "AcceleratorError":
            raise DeviceLostError(_line(text)) from error
        if alone and _LIBRARY.search(text):
            self._library_failures += 1
            if self._library_failures > 1:
                raise DeviceLostError(_line(text)) from error


def _restore(reason: str, blame: bool) -> DeviceLostError:
    return DeviceLostError(reason, blame=blame)


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
