"""Weights as a GPU likes them, changed once when a network is loaded: its precision, fewer parts.

Under autocast a network keeps float32 weights, and every batch casts every one of them again: 702
copies in a Mask2Former, beside sums and normalisations in float32 that a GPU is slow at. With
weights of the precision itself nothing is cast on the way. What must stay float32 is geometry:
where points and boxes lie (a bfloat16 tells 256 steps of a side apart), which each family keeps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

_FROZEN = "FrozenBatchNorm2d"
"""In the name of a class that multiplies with float32 statistics and gives float32."""

_FREQUENCIES = "inv_freq"
"""In the names of buffers by which rotary embeddings turn positions into angles."""


def castable(model: nn.Module) -> bool:
    """Whether the network computes in the precision of its weights throughout."""
    return not any(_FROZEN in type(module).__name__ for module in model.modules())


def cast_weights(model: nn.Module, dtype: torch.dtype, *, keep: Iterable[nn.Module] = ()) -> None:
    """Casts weights and buffers, but those of batch normalisation and rotary embeddings.

    A running variance spans orders of magnitude and is divided by; cuDNN takes it as float32
    beside an input of the precision. A frequency is multiplied with positions up to hundreds.

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
            for name, tensor in own.items():
                if tensor is None or not tensor.is_floating_point() or _FREQUENCIES in name:
                    continue
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


def fold_batch_norms(model: nn.Module) -> int:
    """Multiplies scales into the weights of the convolutions before them: the same, but rounding.

    A convolution and a normalisation belong together where one follows the other among the parts
    of one module, as in torchvision's networks, which name them in the order of their use.

    Args:
        model: Changed in place.

    Returns:
        How many normalisations are gone.
    """
    count = 0
    for module in list(model.modules()):
        before: Any = None
        for name, child in list(module.named_children()):
            if isinstance(before, nn.Conv2d) and _normalises(child, before):
                _fold(before, child)
                setattr(module, name, nn.Identity())
                count += 1
            before = child
    return count


def _normalises(module: Any, convolution: nn.Conv2d) -> bool:
    if not (isinstance(module, _BatchNorm) or _FROZEN in type(module).__name__):
        return False
    return module.running_mean is not None and len(module.running_mean) == convolution.out_channels


def _fold(convolution: nn.Conv2d, normalisation: Any) -> None:
    weight, bias = fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        normalisation.running_mean,
        normalisation.running_var,
        normalisation.eps,
        normalisation.weight,
        normalisation.bias,
    )
    for parameter in (weight, bias):
        parameter.requires_grad_(False)
    convolution.weight, convolution.bias = weight, bias
