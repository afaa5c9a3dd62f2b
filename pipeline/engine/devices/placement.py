"""Where a worker runs, and what of the machine it gets beside its device."""

from __future__ import annotations

import os
import sys

from pipeline.errors import ExecutionError


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
