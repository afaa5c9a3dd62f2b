"""Which segments of two overlapping tiles are one object."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from pipeline.masks.column_runs import ColumnRuns

from .grid import Span, Tile, TileGrid

Ints = npt.NDArray[np.int64]

_RIVAL = 0.5
"""Share of the smaller of two segments, inside the window, from which on they claim one place."""


@dataclass(frozen=True, slots=True)
class TileSide:
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


def match_tiles(a: TileSide, b: TileSide, *, min_iou: float) -> Verdict:
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


# Which segments of a tile another tile sees better, and does not confirm.

Flags = npt.NDArray[np.bool_]


def cut_sides(grid: TileGrid, row: Ints, column: Ints, boxes_xyxy: Ints) -> Flags:
    """Which edges of its tile cut a segment: it touches them, and the picture goes on.

    Args:
        grid: The tiles.
        row: n, row of each segment's tile.
        column: n, its column.
        boxes_xyxy: n×4, boxes in the picture, pixels, one past the last on the right and below.

    Returns:
        n×4 flags: left, top, right, bottom.
    """
    x0, y0, x1, y1 = boxes_xyxy.T
    y, x = _table(grid.rows)[row], _table(grid.columns)[column]
    return np.stack(
        (
            (x0 == x[:, 0]) & (column > 0),
            (y0 == y[:, 0]) & (row > 0),
            (x1 == x[:, 1]) & (column < len(grid.columns) - 1),
            (y1 == y[:, 1]) & (row < len(grid.rows) - 1),
        ),
        axis=1,
    )


def unconfirmed(
    grid: TileGrid, row: Ints, column: Ints, boxes_xyxy: Ints, cut: Flags, group: Ints
) -> Flags:
    """Finds segments that a better placed neighbour has looked at without finding their object.

    A neighbour is better placed if the whole segment lies in it and

    - it looks beyond every edge of the tile that cuts the segment; or
    - the segment is not cut and its middle lies in the neighbour's kept part.

    Args:
        grid: As in `cut_sides`.
        row: Likewise.
        column: Likewise.
        boxes_xyxy: Likewise.
        cut: n×4, of `cut_sides`.
        group: n, segments of one object share a number ≥ 0.

    Returns:
        n flags.
    """
    x0, y0, x1, y1 = boxes_xyxy.T
    y, x = _table(grid.rows), _table(grid.columns)
    left, top, right, bottom = cut.T
    middle_y, middle_x = (y0 + y1 - 1) // 2, (x0 + x1 - 1) // 2

    tiles = len(grid)
    members = np.unique(group * tiles + row * len(x) + column)
    found = np.zeros(len(group), np.bool_)
    for down_by, right_by in product((-1, 0, 1), repeat=2):
        r, c = row + down_by, column + right_by
        there = (r >= 0) & (r < len(y)) & (c >= 0) & (c < len(x)) & ((r != row) | (c != column))
        r, c = np.where(there, r, row), np.where(there, c, column)
        holds = (y[r, 0] <= y0) & (y1 <= y[r, 1]) & (x[c, 0] <= x0) & (x1 <= x[c, 1])
        beyond = (
            (~left | (x[c, 0] < x[column, 0]))
            & (~top | (y[r, 0] < y[row, 0]))
            & (~right | (x[c, 1] > x[column, 1]))
            & (~bottom | (y[r, 1] > y[row, 1]))
        )
        owns = (
            (y[r, 2] <= middle_y)
            & (middle_y < y[r, 3])
            & (x[c, 2] <= middle_x)
            & (middle_x < x[c, 3])
        )
        better = there & holds & np.where(cut.any(1), beyond, owns)
        found |= better & ~np.isin(group * tiles + r * len(x) + c, members)
    return found


def dropped(group: Ints, unconfirmed: Flags, rivals: Ints, score: npt.NDArray[np.float64]) -> Flags:
    """Which groups are fragments or doubles, and go.

    A group goes if none of its segments is confirmed. Where two such groups claim one place and
    nothing else does, the surer of them stays: each tile left the object to the other.

    Args:
        group: n, the object of each segment, 0…
        unconfirmed: n flags, see the function of that name.
        rivals: m×2 segments that claim one place.
        score: n, of each segment.

    Returns:
        One flag a group.
    """
    count = int(group.max(initial=-1)) + 1
    gone = np.bincount(group[~unconfirmed], minlength=count) == 0
    claims: dict[int, set[int]] = {}
    for one, other in group[rivals].tolist():
        if one != other:
            claims.setdefault(one, set()).add(other)
            claims.setdefault(other, set()).add(one)
    best = np.zeros(count)
    np.maximum.at(best, group, score)
    for one in sorted(
        (each for each in claims if gone[each]), key=lambda each: (-best[each], each)
    ):
        if all(gone[other] for other in claims[one]):
            gone[one] = False
    return gone


def _table(spans: tuple[Span, ...]) -> Ints:
    return np.array([(one.start, one.stop, one.low, one.high) for one in spans], np.int64)
