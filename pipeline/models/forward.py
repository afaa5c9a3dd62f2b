"""Forward: a network's function at the wanted precision, compiled if wanted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from schemas.model_config import ModelConfig

Function = Callable[[Tensor], tuple[Tensor, ...]]
SHAPES = 16
"""Input shapes that are compiled; further ones run as they are. Compiling takes up to minutes."""


def precision(dtype: str, device: str | torch.device) -> torch.dtype:
    """What `model.dtype` means on a device.

    "auto" is bfloat16 on a GPU that computes in it, else float32: on a CPU always, so that labels
    do not depend on which CPU a worker got. Where all of them have AVX512-BF16 or AMX, "bfloat16"
    is faster (bench/cpu_precision.py).
    """
    if dtype != "auto":
        return getattr(torch, dtype)
    gpu = torch.device(device).type == "cuda"
    native = gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float32


def autocast(
    options: ModelConfig, device: str | torch.device
) -> torch.autocast | nullcontext[None]:
    """Computes in the job's precision what allows it."""
    dtype = precision(options.dtype, device)
    return (
        nullcontext()
        if dtype == torch.float32
        else torch.autocast(torch.device(device).type, dtype=dtype)
    )


class Forward:
    """Calls a network.

    Matrix products and convolutions run in the precision, sums that need it in float32
    (autocast); weights stay float32.

    Args:
        function: B×3×h×w float32 → tensors of B rows each.
        device: Where the network is.
        options: `dtype` and `compile`.
    """

    def __init__(
        self, function: Function, *, device: str | torch.device, options: ModelConfig
    ) -> None:
        self._device = torch.device(device)
        self._options = options
        self._function = function
        self._compiled = torch.compile(function, dynamic=False) if options.compile else None
        self._shapes: set[torch.Size] = set()

    def __call__(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The network's answer, in float32."""
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), autocast(self._options, self._device):
            if self._compiled and not self._shapes:
                self._function(pixels)  # transformers hangs hooks into a model at its first call
            answer = self._chosen(pixels.shape)(pixels)
        return tuple(each.float() if each.is_floating_point() else each for each in answer)

    def _chosen(self, shape: torch.Size) -> Function:
        if self._compiled is None:
            return self._function
        if shape not in self._shapes:
            if len(self._shapes) == SHAPES:
                return self._function
            self._shapes.add(shape)
            limits = torch._dynamo.config  # its own limit of 8 falls back to plain calls
            limits.recompile_limit = max(limits.recompile_limit, SHAPES)
        return self._compiled
