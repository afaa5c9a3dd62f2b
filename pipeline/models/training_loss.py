"""What the net is punished for."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from .training_targets import WEIGHT_ONE

_TOUCH_FACTOR = 5.0
"""Pixels between touching nuclei are rare: a missed one costs as much as five false ones."""


def map_loss(logits: Tensor, planes: Tensor) -> Tensor:
    """Interior: cross-entropy and Dice; touching: cross-entropy; distance: absolute error.

    Args:
        logits: Bx3xHxW: interior, touching, distance, before the sigmoid.
        planes: Bx4xHxW uint8, see `target_planes`.

    Returns:
        A scalar.
    """
    logits = logits.float()
    interior, touch = planes[:, 0].float(), planes[:, 1].float()
    distance = planes[:, 2].float() / 255
    weight = planes[:, 3].float() / WEIGHT_ONE
    weight = weight / weight.mean().clamp(min=1e-3)
    entropy = functional.binary_cross_entropy_with_logits(logits[:, 0], interior, weight)
    inside = logits[:, 0].sigmoid() * weight
    dice = 1 - (2 * (inside * interior).sum() + 1) / (inside.sum() + (weight * interior).sum() + 1)
    between = functional.binary_cross_entropy_with_logits(
        logits[:, 1], touch, weight * (1 + (_TOUCH_FACTOR - 1) * touch)
    )
    # Background is most of a picture; half of this term looks at nuclei alone.
    error = (logits[:, 2].sigmoid() - distance).abs() * weight
    inner = (error * interior).sum() / (weight * interior).sum().clamp(min=1)
    return entropy + 0.5 * dice + between + error.mean() + inner
