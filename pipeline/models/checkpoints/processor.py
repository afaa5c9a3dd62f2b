"""GPUs and threads of this process, as torch sees them; it is loaded when one of them is asked."""

from __future__ import annotations

import ctypes
import os
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


def count_gpus() -> int:
    """GPUs that torch can use here."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Gives torch so many threads in the block, unless OMP_NUM_THREADS says how many.

    Sums of several threads are parted by how many there are, so a label may depend on it.
    """
    import torch

    before = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, slots=True)
class GpuUse:
    """What a worker takes of its GPU.

    Attributes:
        busy: Share of the time in which the GPU computed, for this process or another.
        memory: Share of its memory that this process has held at once.
    """

    busy: float
    memory: float


class GpuMeter:
    """Reads in a thread how busy a GPU is, as its driver counts it (NVML).

    Args:
        device: "cuda" or "cuda:N".
        every_s: Seconds between two readings.
    """

    def __init__(self, device: str, *, every_s: float = 0.1) -> None:
        self._device = device
        self._seen: list[float] = []
        self._over = threading.Event()
        self._first = True
        read = _busy_reader(device)
        if read is not None:
            arguments = (read, every_s)
            threading.Thread(target=self._watch, args=arguments, name="gpu", daemon=True).start()

    def take(self) -> GpuUse | None:
        """Since the last call; None where nothing was read.

        The first call gives None as well: what a model does for the first time takes longer.
        """
        seen, self._seen = self._seen, []
        first, self._first = self._first, False
        return None if first or not seen else GpuUse(statistics.fmean(seen), _memory(self._device))

    def close(self) -> None:
        """Ends the thread."""
        self._over.set()

    def _watch(self, read: Callable[[], float], every_s: float) -> None:
        while not self._over.wait(every_s):
            self._seen.append(read())


_CONTEXT = 1 << 30
"""Bytes that a process holds beside its tensors: CUDA's context and the libraries' code."""


def _memory(device: str) -> float:
    import torch

    total = torch.cuda.get_device_properties(device).total_memory
    return (torch.cuda.max_memory_reserved(device) + _CONTEXT) / total


def _busy_reader(device: str) -> Callable[[], float] | None:
    """Gives the share of the last moments in which a kernel ran; None without NVML."""
    import torch

    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        name = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
    except (OSError, AttributeError, RuntimeError):
        return None
    handle = ctypes.c_void_p()
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(name, ctypes.byref(handle)):
        return None
    rates = (ctypes.c_uint * 2)()  # of the GPU and of its memory, percent

    def read() -> float:
        nvml.nvmlDeviceGetUtilizationRates(handle, rates)
        return rates[0] / 100

    # A part of a GPU (MIG) does not say: no answer is not an idle GPU.
    return None if nvml.nvmlDeviceGetUtilizationRates(handle, rates) else read
