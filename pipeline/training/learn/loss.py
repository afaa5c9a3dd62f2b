"""What a semantic network is blamed for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .group import Group

IGNORE = -1
"""Label of a pixel that teaches nothing."""

_ALONE = Group()


def semantic_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    dice: bool = False,
    group: Group = _ALONE,
) -> Tensor:
    """Mean cross-entropy over the pixels that teach, each by the weight of its true category.

    Args:
        logits: BxCxHxW.
        labels: BxHxW integers, `IGNORE` = no pixel.
        weights: C, of the categories; None = 1.
        dice: Add 1 − the mean soft Dice coefficient of the categories that occur in the batch
            (Milletari, Navab, Ahmadi, "V-Net", 3DV 2016, with sums instead of squares).
        group: The batch is that of all workers.

    Returns:
        A scalar, the same on all workers; 0 where no pixel teaches.
    """
    logits, labels = logits.float(), labels.long()
    summed = functional.cross_entropy(
        logits, labels, weight=weights, ignore_index=IGNORE, reduction="sum"
    )
    teaches = labels != IGNORE
    safe = labels.clamp_min(0)
    mass = (weights[safe] * teaches).sum() if weights is not None else teaches.sum()
    both = group.total(torch.stack([summed, mass.float()]))
    loss = both[0] / both[1].detach().clamp_min(1e-6)
    return loss + _dice(logits, safe, teaches, group) if dice else loss


def _dice(logits: Tensor, safe: Tensor, teaches: Tensor, group: Group) -> Tensor:
    chance = logits.softmax(1) * teaches[:, None]
    truth = functional.one_hot(safe, logits.shape[1]).permute(0, 3, 1, 2) * teaches[:, None]
    axes = (0, 2, 3)
    sums = torch.stack([(chance * truth).sum(axes), chance.sum(axes), truth.sum(axes).float()])
    common, found, true = group.total(sums)
    coefficient = 2 * common / (found + true).clamp_min(1e-6)
    occurs = (true > 0).float()
    return 1 - (coefficient * occurs).sum() / occurs.sum().clamp_min(1)
