"""A worker's device: how many share a GPU, and what an error of it means.

An error is of one picture, or of the process, which can never compute again.
"""

from __future__ import annotations

import math
import os
import re
import sys

from pipeline.errors import ExecutionError
from schemas.config.job import ExecutionConfig
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


def resolve_device(device: str, gpus: float | None) -> str:
    """ "auto" becomes "cuda" for a worker that holds a GPU, else "cpu"."""
    if device != "auto":
        return device
    return "cuda" if gpus else "cpu"


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
    refuse_gpu(device)
    if "torch" in sys.modules and any(os.environ.get(k) != v for k, v in INSTRUCTIONS.items()):
        wanted = " ".join(f"{key}={value}" for key, value in INSTRUCTIONS.items())
        raise ExecutionError(
            "execution.reproducible: torch was loaded before it could be told: leave out "
            f"execution.inline, or start Python with {wanted}"
        )
    os.environ.update(INSTRUCTIONS)


def refuse_gpu(device: str) -> None:
    """Says that `execution.reproducible` is of no use on a GPU.

    Raises:
        ExecutionError: The device is one.
    """
    if not device.startswith("cpu"):
        raise ExecutionError(
            f"execution.reproducible holds CPUs alone, and a worker would run on {device!r}: set "
            "model.device = 'cpu'"
        )


MOST_SHARING = 8
"""Workers that share a GPU, at most."""
_FULL = 0.7
"""Share of the time; a GPU that computes so much gains little by another worker."""
_ENOUGH_S = 3.0
"""Of work that a decision is made upon."""
_ROOM = 0.9
"""Of a GPU's memory, for all workers on it."""


class GpuShares:
    """How many workers share a GPU, by what the first ones have measured.

    A worker begins with a GPU for itself. Where the GPU rests for a third of the time, and
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
        if max(self.busy, self._waited / self._seconds) >= _FULL:
            return 1
        fit = min(int(self._cpus), MOST_SHARING, int(_ROOM / max(self._memory, 1e-9)))
        number = min(fit, math.ceil(1 / max(self.busy, 1 / MOST_SHARING)))
        left_s = left * self._seconds / self._shards / max(workers, 1)
        worth = left_s * (1 - 1 / max(number, 1)) >= start_s
        return number if number > 1 and worth else 1

    def told(self, number: int) -> str:
        """A line for a person: so many share a GPU, and why."""
        return (
            f"a worker keeps its GPU busy {self.busy:.0%} of the time: from now on {number} share "
            "one (execution.gpus_per_worker)"
        )

    def settled(self, execution: ExecutionConfig, number: int) -> ExecutionConfig:
        """The section with so many workers a GPU."""
        share = 1 / number
        cpus = cpus_beside(share, gpus=1, cpus=self._cpus)
        return execution.model_copy(update={"gpus_per_worker": share, "cpus_per_worker": cpus})


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
