"""Sees that a network's answer holds numbers: NaN and infinity become a failed row, not a label.

NaN compares false with every threshold, so a picture whose answer is NaN would look empty, or be
given to whichever category comes first. Every family asks here, before it decides anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor


class NonFiniteError(ValueError):
    """A network answered with NaN or infinity."""


def finite(*answers: Any) -> Tensor:
    """Whether all numbers in tensors are finite, on their device: nobody waits for it here.

    Args:
        answers: Tensors, or what holds them: sequences, mappings, dataclasses.

    Returns:
        One bool; on the CPU where there is no tensor of floats.
    """
    flags = [each.isfinite().all() for each in _floats(answers)]
    return torch.stack(flags).all() if flags else torch.tensor(True)


def check_finite(*answers: Any) -> None:
    """Waits for the device and looks.

    Raises:
        NonFiniteError: There is NaN or infinity among the numbers.
    """
    refuse_unless(finite(*answers))


def refuse_unless(flag: Tensor) -> None:
    """Looks at what `finite` said.

    Raises:
        NonFiniteError: It is false.
    """
    if not bool(flag):
        raise NonFiniteError("the model answered with NaN or infinity")


def _floats(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _floats(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _floats(each)
    elif is_dataclass(value):
        for item in fields(value):
            yield from _floats(getattr(value, item.name))
