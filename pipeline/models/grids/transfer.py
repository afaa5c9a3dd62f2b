"""Small tables to a device and answers from it, with as little waiting as can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def upload(*tables: npt.NDArray[np.integer[Any]], device: torch.device) -> list[Tensor]:
    """Tables as int64 on the device, flat, in one copy that waits for nothing."""
    flat = np.concatenate([table.reshape(-1) for table in tables], dtype=np.int64)
    on_device = torch.from_numpy(flat).to(device, non_blocking=True)
    return list(on_device.split([table.size for table in tables]))


def fetch(tensor: Tensor) -> npt.NDArray[Any]:
    """A tensor on the host; from a GPU through pinned memory, which PyTorch keeps for the next."""
    if tensor.device.type != "cuda":
        return tensor.cpu().numpy()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensor.device).synchronize()
    return host.numpy()


def fetch_all(tensors: Sequence[Tensor]) -> list[npt.NDArray[np.float64]]:
    """Several tensors of floats on the host as float64, in one copy."""
    flat = fetch(torch.cat([tensor.flatten() for tensor in tensors])).astype(np.float64)
    ends = np.cumsum([tensor.numel() for tensor in tensors])[:-1]
    parts = np.split(flat, ends)
    return [part.reshape(one.shape) for part, one in zip(parts, tensors, strict=True)]


def best_device() -> str:
    """The device that a model goes to where nobody names one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
