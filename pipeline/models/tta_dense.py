"""Several views' maps of one picture, made one."""

from __future__ import annotations

import torch
from torch import Tensor

from .fit import View
from .outputs import DenseOutput
from .regrid import flipped_back, regrid


class DenseMean:
    """Mean of the logits on the first view's grid. Keeps one sum, not every view's maps.

    A softmax of it is the geometric mean of the views' probabilities, made to add up to 1: a
    number that a view adds to all logits of a cell (the normaliser of a log-softmax is one) drops
    out, so logits need no normalising before. Outputs of probabilities give their mean.
    """

    def __init__(self) -> None:
        self._first: DenseOutput | None = None
        self._total = torch.empty(0)
        self._best: list[Tensor] = []

    def add(self, output: DenseOutput, view: View) -> None:
        """One view of the picture; the first one is the reference."""
        reference = self._first or output
        hw = (reference.logits.shape[-2], reference.logits.shape[-1])
        logits = regrid(flipped_back(output.logits, view), output.frame, reference.frame, hw)
        if self._first is None:
            self._first, self._total = output, logits.float().clone()
        else:
            self._total += logits
        self._best.append(_best(logits))

    def result(self) -> DenseOutput:
        """`agreement` is the share of the views whose best category in a cell is the merged one.

        Raises:
            ValueError: No view was added.
        """
        if self._first is None:
            raise ValueError("no view to take the mean of")
        winner = _best(self._total)
        agreeing = sum((best == winner).to(torch.float32) for best in self._best)
        return DenseOutput(
            logits=self._total / len(self._best),
            frame=self._first.frame,
            probabilities=self._first.probabilities,
            agreement=torch.as_tensor(agreeing) / len(self._best),
        )


def _best(logits: Tensor) -> Tensor:
    return logits.argmax(0).to(torch.int16)
