"""Several views' maps of one picture, made one."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .fit import View
from .outputs import DenseOutput
from .regrid import flipped_back, regrid


def average_dense(outputs: Sequence[DenseOutput], views: Sequence[View]) -> DenseOutput:
    """Mean of the logits on the first output's grid.

    A softmax of it is the geometric mean of the views' probabilities, made to add up to 1: a
    number that a view adds to all logits of a cell (the normaliser of a log-softmax is one) drops
    out, so logits need no normalising before. Outputs of probabilities give their mean.

    Args:
        outputs: Of the same picture, one a view.
        views: How each was looked at.

    Returns:
        The first output's frame and grid; `agreement` is the share of the views whose best
        category in a cell is the merged one.
    """
    reference = outputs[0]
    hw = (reference.logits.shape[-2], reference.logits.shape[-1])
    total = torch.zeros_like(reference.logits, dtype=torch.float32)
    best = []
    for output, view in zip(outputs, views, strict=True):
        logits = regrid(flipped_back(output.logits, view), output.frame, reference.frame, hw)
        total += logits
        best.append(logits.argmax(0))
    winner = total.argmax(0)
    agreeing = torch.stack([each == winner for each in best])
    return DenseOutput(
        logits=total / len(outputs),
        frame=reference.frame,
        probabilities=reference.probabilities,
        agreement=agreeing.float().mean(0),
    )
