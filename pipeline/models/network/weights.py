"""Weights in the precision of the job, cast once when a network is loaded.

Under autocast a network keeps float32 weights, and every batch casts every one of them again: 702
copies in a Mask2Former, beside sums and normalisations in float32 that a GPU is slow at. With
weights of the precision itself nothing is cast on the way. What must stay float32 is geometry:
where points and boxes lie (a bfloat16 tells 256 steps of a side apart), which each family keeps.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_FROZEN = "FrozenBatchNorm2d"
"""In the name of a class that multiplies with float32 statistics and gives float32."""


def castable(model: nn.Module) -> bool:
    """Whether the network computes in the precision of its weights throughout."""
    return not any(_FROZEN in type(module).__name__ for module in model.modules())


def cast_weights(model: nn.Module, dtype: torch.dtype, *, keep: Iterable[nn.Module] = ()) -> None:
    """Casts weights and buffers, but those of batch normalisation.

    A running variance spans orders of magnitude and is divided by; cuDNN takes it as float32
    beside an input of the precision.

    Args:
        model: Changed in place.
        dtype: bfloat16 or float16.
        keep: Parts that stay as they are.
    """
    kept = {part for whole in keep for part in whole.modules()}
    for module in model.modules():
        if isinstance(module, _BatchNorm) or module in kept:
            continue
        for own in (module._parameters, module._buffers):
            for tensor in own.values():
                if tensor is not None and tensor.is_floating_point():
                    tensor.data = tensor.data.to(dtype)


class Cast(nn.Module):
    """A part in a precision of its own inside a network of another.

    Args:
        inner: Takes one tensor and gives one.
        dtype: Of its weights; its input is cast to it, its output is not cast back.
    """

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = inner
        self._dtype = dtype

    def forward(self, given: Tensor) -> Tensor:
        """Of the part's precision."""
        return self.inner(given.to(self._dtype))
