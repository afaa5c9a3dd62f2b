"""Pixels of open cells: only their candidates are interpolated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.models.grids.geometry import Axis, Frame
from pipeline.models.grids.maps import Rules, Winners, label_dtype
from pipeline.models.grids.resample import axes_of, readings

from .winners import strip_winners

# Cells: the squares between neighbouring points of a grid, and the pixels inside each.

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class CellAxis:
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

    def part(self, start: int, stop: int) -> CellAxis:
        """Cells start…stop−1."""
        some = slice(start, stop)
        return CellAxis(
            self.low[some], self.high[some], self.first[some], self.count[some],
            self.weight[:, some],
        )  # fmt: skip


def side_of(axis: Axis) -> CellAxis:
    """The cells of one side."""
    first = np.flatnonzero(np.append(True, axis.low[1:] != axis.low[:-1]))
    count = np.diff(np.append(first, len(axis.low)))
    pixel = np.minimum(first + np.arange(count.max())[:, None], len(axis.low) - 1)
    low, high = axis.low[first].astype(np.intp), axis.high[first].astype(np.intp)
    return CellAxis(low, high, first, count, axis.weight[pixel])


def corners(
    values: Floats, y: CellAxis, x: CellAxis, at_y: Places, at_x: Places, of: Places | None = None
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
    y: CellAxis,
    x: CellAxis,
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
    values: Floats, y: CellAxis, x: CellAxis, at_y: Places, at_x: Places, of: Places
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


def _inside(y: CellAxis, x: CellAxis, at_y: Places, at_x: Places) -> Flags:
    """p×q×n: which pixels belong to the cells; the largest cells have p×q."""
    column = np.arange(len(x.weight))[:, None] < x.count[at_x]
    row = np.arange(len(y.weight))[:, None] < y.count[at_y]
    return column[:, None] & row[None]


def _write(
    pixels: Labels,
    winners: Labels,
    y: CellAxis,
    x: CellAxis,
    at_y: Places,
    at_x: Places,
) -> None:
    height = int(y.first[-1] + y.count[-1])
    column = x.first[at_x] - x.first[0] + np.arange(len(x.weight))[:, None]
    row = y.first[at_y] + np.arange(len(y.weight))[:, None]
    place = (column * height)[:, None] + row[None]
    inside = _inside(y, x, at_y, at_x)
    pixels[place[inside]] = winners[inside]


# Who wins each pixel, on a CPU: most pixels are settled a cell at a time.
#
# A cell is the square between four neighbouring points of a grid; the values of the pixels in it
# are mixtures of those four, so they lie between the least and the largest. A map whose largest
# value in a cell is below another's least value can win no pixel of it. Where one candidate is left
# the cell is settled, elsewhere only the candidates are interpolated. The outcome is that of
# `plain_winners`.

_STRIP = 1 << 18
"""Pixels at once, so that what they need stays in the cache."""

_SPARSE = 1 / 8
"""Above this share of all values, interpolating every one of them is faster."""

_MOST = 1 << 23
"""Values interpolated at once, at most; more would take too much memory."""


def cell_winners(maps: Tensor, frame: Frame, rules: Rules | None = None) -> Winners:
    """See `plain_winners`.

    Args:
        maps: K×h×w float32 on the CPU, K ≥ 1.
        frame: Where the picture lies.
        rules: Of queries.
    """
    count, rows, columns = maps.shape
    height, width = frame.picture_hw
    y, x = (side_of(axis) for axis in axes_of(frame, (rows, columns)))
    reading_y, reading_x = readings(frame, (rows, columns), maps.device)
    values = points_first(maps)
    find = _Queries(values, y, rules) if rules is not None else _Values(values, y)
    labels = torch.empty((width, height), dtype=label_dtype(count))
    pixels = labels.numpy().reshape(-1)
    visible, own = np.zeros(count), np.zeros(count)
    step = max(1, _STRIP // (height * len(x.weight)))
    for start in range(0, len(x.low), step):
        part = x.part(start, start + step)
        left, right = int(part.first[0]), int(part.first[-1] + part.count[-1])
        some = pixels[left * height : right * height]
        cells = find(part)
        limit = min(_SPARSE * count * len(some), _MOST)
        if cells is None or cells.work(len(x.weight) * len(y.weight)) > limit:
            strip, owned = strip_winners(maps, reading_y, reading_x.part(left, right), rules)
            labels[left:right] = strip
            own += owned.numpy()
        else:
            filled = (cells.settled.T + 1).astype(some.dtype)
            some[:] = filled.repeat(y.count, axis=1).repeat(part.count, axis=0).reshape(-1)
            own += cells.sure
            own += settle(some, cells, values, y, part, rules)
        if rules is not None:
            visible += _tally(some, count)
    return Winners(labels, visible.astype(np.int64), own.astype(np.int64))


def points_first(maps: Tensor) -> Floats:
    """K×h×w → h×w×K, contiguous: what all maps say of a point lies together."""
    count, rows, columns = maps.shape
    if maps.permute(1, 2, 0).is_contiguous():
        return maps.permute(1, 2, 0).numpy()
    flat = np.ascontiguousarray(maps.numpy()).reshape(count, -1)
    # OpenCV transposes in cache-sized blocks.
    return np.asarray(cv2.transpose(flat), np.float32).reshape(rows, columns, count)


class _Queries:
    """Queries: bounds of score × mask probability in every cell."""

    def __init__(self, values: Floats, y: CellAxis, rules: Rules) -> None:
        points = torch.from_numpy(values).sigmoid().mul_(rules.scores).numpy()
        above, below = points[y.low], points[y.high]
        self._least, self._most = np.minimum(above, below), np.maximum(above, below)
        self._y = y
        self._threshold = np.float32(rules.mask_threshold)

    def __call__(self, x: CellAxis) -> OpenCells:
        least = np.minimum(self._least[:, x.low], self._least[:, x.high])
        most = np.maximum(self._most[:, x.low], self._most[:, x.high])
        candidates = most >= least.max(-1, keepdims=True)
        rivals = np.count_nonzero(candidates, axis=-1) > 1
        whole = least >= self._threshold
        asked = (most >= self._threshold) & ~whole
        size = np.multiply.outer(self._y.count, x.count).astype(np.float64)
        sure = size.reshape(-1) @ whole.reshape(-1, whole.shape[-1])
        at_y, at_x = np.nonzero(rivals | asked.any(-1))
        candidates, asked = candidates[at_y, at_x], asked[at_y, at_x]
        candidates &= rivals[at_y, at_x][:, None]
        return OpenCells(least.argmax(-1), sure, at_y, at_x, candidates, asked)


class _Values:
    """Bare values: one that is the largest in all four corners wins the whole cell."""

    def __init__(self, values: Floats, y: CellAxis) -> None:
        rows, columns, count = values.shape
        best = values.reshape(-1, count).argmax(-1).reshape(rows, columns)
        self._above, self._below = best[y.low], best[y.high]
        self._values, self._y = values, y

    def __call__(self, x: CellAxis) -> OpenCells | None:
        settled, right = self._above[:, x.low], self._above[:, x.high]
        under, across = self._below[:, x.low], self._below[:, x.high]
        at_y, at_x = np.nonzero((settled != right) | (settled != under) | (settled != across))
        if len(at_y) > settled.size // 2:
            return None  # noise: looking for candidates would be in vain
        known = list(corners(self._values, self._y, x, at_y, at_x))
        least = np.minimum(np.minimum(*known[:2]), np.minimum(*known[2:]))
        most = np.maximum(np.maximum(*known[:2]), np.maximum(*known[2:]))
        candidates = most >= least.max(-1, keepdims=True)
        return OpenCells(settled, 0.0, at_y, at_x, candidates, None)


def _tally(pixels: Labels, count: int) -> npt.NDArray[np.float64]:
    """Pixels of labels 1…count."""
    if pixels.dtype == np.uint8:  # OpenCV's histogram is exact below 2**24 pixels a value
        whole = np.zeros(count)
        for start in range(0, len(pixels), 1 << 23):
            some = pixels[start : start + (1 << 23)].reshape(1, -1)
            whole += cv2.calcHist([some], [0], None, [256], [0, 256]).reshape(-1)[1 : count + 1]
        return whole
    return np.bincount(pixels, minlength=count + 1)[1:].astype(np.float64)
