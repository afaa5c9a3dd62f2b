"""Which way maps are brought to pixels: one result, three programs."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from typing import Literal

import torch

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
    return "kernels" if device.type == "cuda" and _has_triton() else "plain"


@lru_cache(maxsize=1)
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
