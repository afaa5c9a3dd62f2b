"""Which way maps are brought to pixels: one result, three programs."""

from __future__ import annotations

import importlib.util
import logging
from functools import lru_cache
from typing import Literal

import numpy as np
import torch

log = logging.getLogger(__name__)

Path = Literal["kernels", "cells", "plain"]
"""Triton kernels (GPU), cells settled at once (CPU), or every value with PyTorch (anywhere)."""


def path_for(device: torch.device, asked: Path | None = None) -> Path:
    """The fastest way on a device, unless one is asked for.

    Raises:
        ValueError: The device cannot go that way.
    """
    if asked == "cells" and device.type != "cpu":
        raise ValueError(f"the path 'cells' is for a CPU, not for {device.type}")
    if asked is not None:
        return asked
    if device.type == "cpu":
        return "cells"
    return "kernels" if device.type == "cuda" and _kernels_run(device) else "plain"


@lru_cache(maxsize=8)
def _kernels_run(device: torch.device) -> bool:
    """Whether Triton is there and can build a kernel: it needs a C compiler on the machine."""
    if importlib.util.find_spec("triton") is None:
        return False
    from pipeline.models.kernels.dense_launch import renumber

    labels = torch.ones((1, 1), dtype=torch.uint8, device=device)
    try:
        renumber([labels], [np.array([0, 2])])
        if int(labels) == 1:
            raise RuntimeError("a kernel had no effect")
    except Exception as error:  # whatever a compiler or a driver may say
        log.warning("Triton's kernels do not run here, PyTorch does their work: %s", error)
        return False
    return True
