"""Reshaping: the segments of one task while pixels change hands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from schemas.records import Segment

from .codec import Region
from .column_runs import ColumnRuns, concatenate, merge_runs, ranges, read_column_runs
from .rle_writer import RleWriter

# Small pieces of masks, small holes in them, and who owns a pixel: from runs, nothing is decoded.
#
# Pieces are 8-connected (pixels that touch at a corner belong together) and holes, what a piece
# encloses, 4-connected: of two lines that cross at a corner only one can be whole.

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


def lowest_mask_wins(runs: ColumnRuns, height: int) -> ColumnRuns:
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


class Reshaping:
    """Drops segments, takes pieces from them, fills their holes; masks are read only when needed.

    Args:
        segments: n of one picture and one task.
        size_hw: Of the picture, pixels.
        fixed: n flags; such a segment is not reshaped.
        disjoint: They do not overlap, and must not: holes are filled with nobody's pixels only.
        background: Id of the category that is the rest of the picture, None without one. Where
            segments are disjoint, it takes what is freed and gives up what is filled.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        size_hw: tuple[int, int],
        *,
        fixed: Sequence[bool],
        disjoint: bool,
        background: int | None,
    ) -> None:
        self._segments = segments
        self._height, self._width = size_hw
        self._free = ~np.array(fixed, np.bool_)
        self._disjoint = disjoint
        self._background = background if disjoint else None
        ids = [segment.category_id for segment in segments]
        # Where there is no background yet, it may become one more.
        self._ground = ids.index(background) if background in ids else len(segments)
        self.area = np.array([segment.area for segment in segments], np.int64)
        self.alive = np.ones(len(segments), np.bool_)
        self._changed = np.zeros(len(segments) + 1, np.bool_)
        self._runs: ColumnRuns | None = None
        self._islands = self._filled = _NONE

    def drop(self, flags: Iterable[bool]) -> None:
        """Drops segments; n flags."""
        self.alive &= ~np.fromiter(flags, np.bool_, len(self._segments))

    def drop_islands(self, least: int) -> None:
        """Takes the 8-connected pieces of fewer than `least` pixels from every segment."""
        runs = self._living()
        (mine,) = np.nonzero(self._free[runs.mask])
        gone = np.zeros(len(runs), np.bool_)
        gone[mine] = in_small_pieces(runs.take(mine), least)
        self._islands, self._runs = runs.take(gone), runs.take(~gone)
        lost = self._islands.areas(len(self._segments))
        self._changed[:-1] |= lost > 0
        self.area -= lost
        self.alive &= self.area > 0

    def fill_holes(self, most: int) -> None:
        """Fills the enclosed holes of at most `most` pixels; `area` is not kept up with it."""
        runs = self._living()
        holes, owner = small_holes(runs.take(self._free[runs.mask]), most)
        if self._disjoint and len(holes):
            # The smaller hole lies in the larger one, where both may claim a pixel.
            order = np.argsort(holes.areas(len(owner)), kind="stable")
            rank = np.empty_like(order)
            rank[order] = np.arange(1, len(order) + 1)
            theirs = runs.take(runs.mask != self._ground)
            holes = lowest_mask_wins(
                concatenate((_as(theirs, 0), replace(holes, mask=rank[holes.mask]))), self._height
            )
            holes = holes.take(holes.mask > 0)
            owner = np.append(0, owner[order])
        self._filled = replace(holes, mask=owner[holes.mask])
        self._changed[self._filled.mask] = True

    def segments(self) -> list[Segment]:
        """What is left, in order; a background that was not there before comes last."""
        moved = not self.alive.all() or len(self._islands) or len(self._filled)
        if self._background is not None and moved:
            self._changed[self._ground] = True
        ground = Segment(self._background or 0, b"", 0, (0, 0, 0, 0), task=self._segments[0].task)
        found = [*self._segments, ground]
        kept = np.append(self.alive, False) & ~self._changed
        if self._changed.any():
            for region in self._rewritten():
                index = region.label - 1
                kept[index] = True
                found[index] = replace(
                    found[index],
                    counts=region.counts,
                    area=region.area,
                    bbox_xywh=region.bbox_xywh,
                )
        return [found[index] for index in np.flatnonzero(kept).tolist()]

    def _living(self) -> ColumnRuns:
        """The runs of the segments that are alive; `mask` is their index."""
        if self._runs is None:
            self._runs = self._read(self.alive)
        self._runs = self._runs.take(self.alive[self._runs.mask])
        return self._runs

    def _read(self, which: Flags) -> ColumnRuns:
        """The runs that segments came with."""
        (indices,) = np.nonzero(which)
        texts = [self._segments[index].counts for index in indices.tolist()]
        runs = read_column_runs(texts, self._height, self._width)
        return replace(runs, mask=indices[runs.mask])

    def _rewritten(self) -> list[Region]:
        """The new masks of the segments that changed, labelled with their index + 1."""
        parts = [self._filled]
        if self._runs is not None:
            runs = self._living()
            parts.append(runs.take(self._changed[runs.mask] & (runs.mask != self._ground)))
        if self._changed[self._ground]:
            parts.append(self._rest())
        writer = RleWriter(len(self._segments) + 1, self._height, self._width)
        writer.write(*merge_runs(concatenate(parts), self._height))
        return list(writer.finish())

    def _rest(self) -> ColumnRuns:
        """The background: what it was and what was freed, without what was filled."""
        was = ~self.alive
        if self._ground < len(was):
            was[self._ground] = True
        owned = concatenate((self._read(was), self._islands))
        rest = lowest_mask_wins(concatenate((_as(self._filled, 0), _as(owned, 1))), self._height)
        return _as(rest.take(rest.mask == 1), self._ground)


def _as(runs: ColumnRuns, number: int) -> ColumnRuns:
    return replace(runs, mask=np.full(len(runs), number))


_NONE = ColumnRuns(*(np.zeros(0, np.int64) for _ in range(4)))
