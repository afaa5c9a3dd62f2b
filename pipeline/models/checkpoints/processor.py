"""GPUs and threads of this process, as torch sees them; it is loaded when one of them is asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


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
