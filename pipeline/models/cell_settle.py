"""Pixels of open cells: only their candidates are interpolated."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from .cell_side import Floats, Places, Side, corners
from .winners import Rules

Flags = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8 | np.int16]


@dataclass(frozen=True, slots=True)
class OpenCells:
    """Cells of some columns, as far as they are known without interpolating.

    Attributes:
        settled: rows×columns, the only candidate of a cell; of others it does not matter.
        sure: Per map, pixels that are its own because whole cells are; 0 without rules.
        at_y: m, cells in which something is open, by row and …
        at_x: … column of the strip.
        candidates: m×K, who may win them; none where only owning is open.
        asked: m×K, whose own pixels have to be counted; None without rules.
    """

    settled: Places
    sure: npt.NDArray[np.float64] | float
    at_y: Places
    at_x: Places
    candidates: Flags
    asked: Flags | None

    def work(self, pixels: int) -> int:
        """Values to interpolate, where a cell has so many pixels."""
        pairs = self.candidates if self.asked is None else self.candidates | self.asked
        return pixels * int(np.count_nonzero(pairs))


def settle(
    pixels: Labels,
    cells: OpenCells,
    values: Floats,
    y: Side,
    x: Side,
    rules: Rules | None,
) -> npt.NDArray[np.float64]:
    """Interpolates the candidates of open cells, writes the winners' labels, counts own pixels.

    Args:
        pixels: columns×rows of the strip, flat.
        cells: What is open.
        values: h×w×K.
        y: All rows.
        x: The strip's columns.
        rules: Of queries.

    Returns:
        K pixels owned in the open cells.
    """
    # Cells with most candidates come first: those with an n-th candidate are then always the first
    # ones, and the n-th candidates of all of them can be compared in one go, without a gather.
    number = np.count_nonzero(cells.candidates, axis=-1)
    order = np.argsort(-number, kind="stable")
    at_y, at_x = cells.at_y[order], cells.at_x[order]
    cell, of, begin = _rounds(cells.candidates[order], number[order])
    competing = len(cell)
    if cells.asked is not None:
        asked = cells.asked[order]
        more_cell, more_of = np.nonzero(asked & ~cells.candidates[order])
        cell, of = np.concatenate((cell, more_cell)), np.concatenate((of, more_of))
    if not len(cell):
        return np.zeros(values.shape[-1])
    found = _interpolated(values, y, x, at_y[cell], at_x[cell], of)
    owned = np.zeros(values.shape[-1])
    if rules is not None and cells.asked is not None:
        found = torch.from_numpy(found).sigmoid_().mul_(rules.scores[torch.from_numpy(of)]).numpy()
        inside = _inside(y, x, at_y[cell], at_x[cell])
        hits = np.count_nonzero((found >= np.float32(rules.mask_threshold)) & inside, axis=(0, 1))
        hits[~cells.asked[order][cell, of]] = 0
        owned += np.bincount(of, hits, minlength=values.shape[-1])
    if competing:
        winners = _best(found[..., :competing], of, begin, pixels.dtype)
        count = winners.shape[-1]
        _write(pixels, winners, y, x, at_y[:count], at_x[:count])
    return owned


def _rounds(candidates: Flags, number: Places) -> tuple[Places, Places, list[int]]:
    """Pairs of cell and map in rounds: all first candidates, all second ones, …

    Returns:
        Cells, maps, and where each round begins, with the end.
    """
    cell, of = np.nonzero(candidates)
    rank = np.arange(len(cell)) - (np.cumsum(number) - number)[cell]
    begin = np.append(0, np.cumsum(np.bincount(rank)))
    place = begin[rank] + cell
    in_rounds = np.empty((2, len(cell)), np.intp)
    in_rounds[:, place] = cell, of
    return in_rounds[0], in_rounds[1], begin.tolist()


def _interpolated(
    values: Floats, y: Side, x: Side, at_y: Places, at_x: Places, of: Places
) -> Floats:
    """p×q×n: the pixels of n pairs of cell and map, columns first."""
    top_left, top_right, low_left, low_right = corners(values, y, x, at_y, at_x, of)
    weight = x.weight.take(at_x, axis=1)
    top = top_left + weight * (top_right - top_left)
    drop = low_left + weight * (low_right - low_left) - top
    down = y.weight.take(at_y, axis=1)
    found = np.multiply(drop[:, None], down[None], dtype=np.float32)
    found += top[:, None]
    return found


def _best(found: Floats, of: Places, begin: list[int], dtype: np.dtype) -> Labels:
    """p×q×cells labels: the largest of each cell's candidates, the first of equals."""
    first = begin[1]
    best = found[..., :first].copy()
    label = (of + 1).astype(dtype)
    winners = np.empty(best.shape, dtype)
    winners[:] = label[:first]
    for start, stop in pairwise(begin[1:]):
        some = slice(0, stop - start)
        values = found[..., start:stop]
        better = values > best[..., some]
        np.maximum(best[..., some], values, out=best[..., some])
        # Where better: replace. Bits are several times as fast as a masked copy.
        change = (winners[..., some] ^ label[start:stop]) & -better.astype(dtype)
        winners[..., some] ^= change
    return winners


def _inside(y: Side, x: Side, at_y: Places, at_x: Places) -> Flags:
    """p×q×n: which pixels belong to the cells; the largest cells have p×q."""
    column = np.arange(len(x.weight))[:, None] < x.count[at_x]
    row = np.arange(len(y.weight))[:, None] < y.count[at_y]
    return column[:, None] & row[None]


def _write(
    pixels: Labels,
    winners: Labels,
    y: Side,
    x: Side,
    at_y: Places,
    at_x: Places,
) -> None:
    height = int(y.first[-1] + y.count[-1])
    column = x.first[at_x] - x.first[0] + np.arange(len(x.weight))[:, None]
    row = y.first[at_y] + np.arange(len(y.weight))[:, None]
    place = (column * height)[:, None] + row[None]
    inside = _inside(y, x, at_y, at_x)
    pixels[place[inside]] = winners[inside]
