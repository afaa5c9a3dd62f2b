"""Cells: the squares between neighbouring points of a grid, and the pixels inside each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .frame import Axis

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the picture cut into n cells of at most p pixels.

    Attributes:
        low: n, the grid's points before each cell.
        high: n, those after it.
        first: n, the first pixel of each cell.
        count: n, its pixels, at least 1.
        weight: p×n, of `high`, for a cell's pixel number 0…p−1; meaningless beyond its count.
    """

    low: Places
    high: Places
    first: Places
    count: Places
    weight: Floats

    def part(self, start: int, stop: int) -> Side:
        """Cells start…stop−1."""
        some = slice(start, stop)
        return Side(
            self.low[some], self.high[some], self.first[some], self.count[some],
            self.weight[:, some],
        )  # fmt: skip


def side_of(axis: Axis) -> Side:
    """The cells of one side."""
    first = np.flatnonzero(np.append(True, axis.low[1:] != axis.low[:-1]))
    count = np.diff(np.append(first, len(axis.low)))
    pixel = np.minimum(first + np.arange(count.max())[:, None], len(axis.low) - 1)
    low, high = axis.low[first].astype(np.intp), axis.high[first].astype(np.intp)
    return Side(low, high, first, count, axis.weight[pixel])


def corners(
    values: Floats, y: Side, x: Side, at_y: Places, at_x: Places, of: Places | None = None
) -> Iterator[Floats]:
    """Values in the four corners of cells: of all maps (m×K), or of one map a cell (m)."""
    columns, count = values.shape[1:]
    for row in (y.low[at_y], y.high[at_y]):
        for column in (x.low[at_x], x.high[at_x]):
            point = row * columns + column
            if of is None:
                yield values.reshape(-1, count).take(point, axis=0)
            else:
                yield values.reshape(-1).take(point * count + of)
