"""Small tables to a device and answers from it, with as little waiting as can be."""

from __future__ import annotations

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
