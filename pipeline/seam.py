"""Which segments of two overlapping tiles are one object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .column_runs import ColumnRuns
from .transforms.tiling import Tile

Ints = npt.NDArray[np.int64]

_RIVAL = 0.5
"""Share of the smaller of two segments, inside the window, from which on they claim one place."""


@dataclass(frozen=True, slots=True)
class Side:
    """The segments of one tile.

    Attributes:
        tile: Where it lies.
        runs: Of all its segments, in the picture's coordinates; `mask` is the segment's index.
        category: n ids, of each segment.
    """

    tile: Tile
    runs: ColumnRuns
    category: Ints


@dataclass(frozen=True, slots=True)
class Verdict:
    """Pairs (index in the first tile, index in the second), each n×2.

    Attributes:
        same: One object.
        rivals: Of one category and in one place, but too unlike to be one object.
    """

    same: Ints
    rivals: Ints


def compare(a: Side, b: Side, *, min_iou: float) -> Verdict:
    """Matches the segments of two tiles by what both show of them: their common window.

    Two segments of one category are one object where, inside the window,

    - their IoU reaches `min_iou`; each has one partner at most, and the best pairs come first; or
    - connected parts of them match in this way, and these make up `min_iou` of the smaller of the
      two or lead through the window, out of it on both tiles' sides. So the arms of a U that one
      tile shows apart are joined through the tile that shows the bend, while a speck on which two
      tiles agree joins nothing large.
    """
    y = slice(max(a.tile.y.start, b.tile.y.start), min(a.tile.y.stop, b.tile.y.stop))
    x = slice(max(a.tile.x.start, b.tile.x.start), min(a.tile.x.stop, b.tile.x.stop))
    here, there = a.runs.within(y, x), b.runs.within(y, x)
    i, j, shared = here.overlaps(there)
    alike = a.category[i] == b.category[j]
    i, j, shared = i[alike], j[alike], shared[alike]
    area_a, area_b = here.areas(len(a.category)), there.areas(len(b.category))
    smaller = np.minimum(area_a[i], area_b[j])
    same = np.zeros(len(i), np.bool_)
    same[_best_first(i, j, shared / (area_a[i] + area_b[j] - shared), min_iou)] = True
    if not same.all():
        # Only of those in doubt and their partners: taking masks apart costs more than the rest.
        doubt = np.isin(i, i[~same]) | np.isin(j, j[~same])
        part_a = _Parts.of(here.take(np.isin(here.mask, i[doubt])), _inside(a.tile, y, x))
        part_b = _Parts.of(there.take(np.isin(there.mask, j[doubt])), _inside(b.tile, y, x))
        count = len(b.category)
        same |= _by_parts(part_a, part_b, i * count + j, count, smaller, min_iou)
    rivals = ~same & (shared >= _RIVAL * smaller)
    return Verdict(np.stack((i[same], j[same]), 1), np.stack((i[rivals], j[rivals]), 1))


@dataclass(frozen=True, slots=True)
class _Parts:
    """Connected parts of one tile's segments inside the window.

    Attributes:
        runs: `mask` is the part's index.
        area: Of each part, pixels.
        owner: Index of the segment that it is a part of.
        leaves: Whether it touches an edge of the window across which the tile goes on.
    """

    runs: ColumnRuns
    area: Ints
    owner: Ints
    leaves: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, segments: ColumnRuns, edges: list[tuple[str, int]]) -> _Parts:
        runs = segments.parts()
        count = int(runs.mask.max(initial=-1)) + 1
        owner, leaves = np.zeros(count, np.int64), np.zeros(count, np.bool_)
        owner[runs.mask] = segments.mask
        for field, value in edges:
            leaves[runs.mask[getattr(runs, field) == value]] = True
        return cls(runs, runs.areas(count), owner, leaves)


def _inside(tile: Tile, y: slice, x: slice) -> list[tuple[str, int]]:
    """The window's edges that lie inside a tile, as a field of runs and its value there."""
    edges = [
        ("top", y.start, y.start > tile.y.start),
        ("bottom", y.stop, y.stop < tile.y.stop),
        ("x", x.start, x.start > tile.x.start),
        ("x", x.stop - 1, x.stop < tile.x.stop),
    ]
    return [(field, value) for field, value, inside in edges if inside]


def _by_parts(
    a: _Parts, b: _Parts, pairs: Ints, count: int, smaller: Ints, min_iou: float
) -> npt.NDArray[np.bool_]:
    """Which pairs of segments are joined by connected parts.

    Args:
        a: Of the first tile.
        b: Of the second.
        pairs: Index in the first tile × `count` + index in the second, ascending.
        count: Segments of the second tile.
        smaller: Per pair, the area of the smaller segment in the window.
        min_iou: Of two parts, and their share of `smaller`.
    """
    i, j, shared = a.runs.overlaps(b.runs)
    pair = a.owner[i] * count + b.owner[j]
    known = np.isin(pair, pairs)  # the others differ in category
    i, j, shared, pair = i[known], j[known], shared[known], np.searchsorted(pairs, pair[known])
    best = _best_first(i, j, shared / (a.area[i] + b.area[j] - shared), min_iou)
    matched = np.bincount(pair[best], weights=shared[best], minlength=len(pairs))
    joined = (matched > 0) & (matched >= min_iou * smaller)
    joined[pair[best[a.leaves[i[best]] & b.leaves[j[best]]]]] = True
    return joined


def _best_first(i: Ints, j: Ints, iou: npt.NDArray[np.float64], least: float) -> Ints:
    """Indices of one-to-one pairs with an IoU of at least `least`, the best first."""
    (good,) = np.nonzero(iou >= least)
    order = good[np.lexsort((j[good], i[good], -iou[good]))]
    taken_i: set[int] = set()
    taken_j: set[int] = set()
    kept = []
    for index, one, other in zip(order.tolist(), i[order].tolist(), j[order].tolist(), strict=True):
        if one not in taken_i and other not in taken_j:
            taken_i.add(one)
            taken_j.add(other)
            kept.append(index)
    return np.array(kept, np.int64)
