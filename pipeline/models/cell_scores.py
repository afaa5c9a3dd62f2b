"""Scores of semantic segments: means over the cells of the grid that each category wins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .maps import Floats, Found

_UNIT = float(1 << 24)


def units(values: Tensor) -> Tensor:
    """Numbers in 0…1 as int64, whose sums do not depend on their order; see `from_units`."""
    return (values.double() * _UNIT).round().long()


def from_units(values: npt.NDArray[np.int64]) -> Floats:
    """Undoes `units`."""
    return values / _UNIT


def found_of(
    cells: npt.NDArray[np.int64],
    probability: npt.NDArray[np.int64],
    largest: Floats,
    agreed: npt.NDArray[np.int64] | None,
) -> Found:
    """What is found in a picture: every category, whether it has pixels or not.

    Args:
        cells: C, that see the picture and where the category is best.
        probability: C, sum of its probability over them, in units.
        largest: C, its largest probability in any cell that sees the picture: the score of one
            that is best between the cells only.
        agreed: C, sum of the agreement over its cells, in units. A category without a cell has
            the mean of all cells.
    """
    number = np.maximum(cells, 1)
    scores = np.where(cells > 0, from_units(probability) / number, largest)
    agreement = None
    if agreed is not None:
        whole = from_units(agreed.sum()) / cells.sum()
        agreement = np.where(cells > 0, from_units(agreed) / number, whole)
    return Found(np.arange(len(cells)), scores, agreement)
