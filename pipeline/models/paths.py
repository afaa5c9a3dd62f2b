"""Which way maps are brought to pixels: one result, two programs."""

from __future__ import annotations

from typing import Literal

import torch

Path = Literal["cells", "plain"]
"""Cells settled at once (CPU), or every value with PyTorch (anywhere)."""


def path_for(device: torch.device, asked: Path | None = None) -> Path:
    """The fastest way on a device, unless one is asked for.

    Raises:
        ValueError: The device cannot go that way.
    """
    if asked == "cells" and device.type != "cpu":
        raise ValueError(f"the path 'cells' is for a CPU, not for {device.type}")
    if asked is not None:
        return asked
    return "cells" if device.type == "cpu" else "plain"
