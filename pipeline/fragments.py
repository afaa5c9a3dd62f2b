"""Which segments of a tile another tile sees better, and does not confirm."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

from .transforms.tiling import Span, TileGrid

Ints = npt.NDArray[np.int64]
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
