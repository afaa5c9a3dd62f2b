"""Small pieces of masks, small holes in them, and who owns a pixel: from runs, nothing is decoded.

Pieces are 8-connected (pixels that touch at a corner belong together) and holes, what a piece
encloses, 4-connected: of two lines that cross at a corner only one can be whole.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .column_runs import ColumnRuns, ranges

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def in_small_pieces(runs: ColumnRuns, least: int) -> Flags:
    """Per run: whether its piece of the mask has fewer than `least` pixels."""
    if not len(runs):
        return np.zeros(0, np.bool_)
    parts = runs.parts(diagonal=True)
    areas = parts.areas(int(parts.mask.max()) + 1)
    return areas[parts.mask] < least


def small_holes(runs: ColumnRuns, most: int) -> tuple[ColumnRuns, Ints]:
    """Regions of at most `most` pixels that a mask encloses; the picture's edge encloses nothing.

    Args:
        runs: Ascending by mask, column and row. Masks may overlap.
        most: Pixels, whatever lies in the hole.

    Returns:
        Runs whose `mask` numbers the holes from 0, in the order of their masks; and each hole's
        mask.
    """
    if not len(runs):
        return runs, np.zeros(0, np.int64)
    width = int(runs.x.max()) + 3
    column = (
        runs.mask.astype(np.int64) * width + runs.x + 1
    )  # a free column before and behind each mask
    beside = column[1:] == column[:-1]
    (upper,) = np.nonzero(beside)
    gaps = ColumnRuns(runs.mask[upper], runs.x[upper], runs.bottom[upper], runs.top[upper + 1])
    if not len(gaps):
        return gaps, np.zeros(0, np.int64)
    # A gap is open if, in the next column, it reaches above all runs or below, or there are none.
    first, last = np.append(True, ~beside), np.append(~beside, True)
    known, top, bottom = column[first], runs.top[first], runs.bottom[last]
    opened = np.zeros(len(gaps), np.bool_)
    for step in (-1, 1):
        wanted = column[upper] + step
        place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        empty = known[place] != wanted
        opened |= empty | (gaps.top < top[place]) | (gaps.bottom > bottom[place])
    holes = gaps.parts()
    count = int(holes.mask.max()) + 1
    good = holes.areas(count) <= most
    good[holes.mask[opened]] = False
    owner = np.zeros(count, np.int64)
    owner[holes.mask] = gaps.mask
    number = np.cumsum(good) - 1
    kept = holes.take(good[holes.mask])
    return ColumnRuns(number[kept.mask], kept.x, kept.top, kept.bottom), owner[good]


def foremost(runs: ColumnRuns, height: int) -> ColumnRuns:
    """Runs that overlap as runs that do not: each pixel goes to the lowest `mask` that covers it.

    Args:
        runs: In any order.
        height: Of the picture, pixels.

    Returns:
        Ascending by column and row; runs of one mask may touch.
    """
    if not len(runs):
        return runs
    starts, ends = runs.places(height)
    points = np.unique(np.concatenate((starts, ends)))
    run, piece = ranges(np.searchsorted(points, starts), np.searchsorted(points, ends))
    nobody = int(runs.mask.max()) + 1
    owner = np.full(len(points), nobody, np.int64)
    np.minimum.at(owner, piece, runs.mask[run])
    (owned,) = np.nonzero(owner[:-1] < nobody)
    x, top = np.divmod(points[owned], height)  # a piece lies in one column, as the runs do
    return ColumnRuns(owner[owned], x, top, top + points[owned + 1] - points[owned])
