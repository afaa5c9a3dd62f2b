"""Reshaping: the segments of one task while pixels change hands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from schemas.records import Segment

from .column_runs import ColumnRuns, concatenate, merged, read_column_runs
from .masks import Region
from .pieces import foremost, in_small_pieces, small_holes
from .run_writer import RunWriter

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


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
            holes = foremost(
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
        writer = RunWriter(len(self._segments) + 1, self._height, self._width)
        writer.write(*merged(concatenate(parts), self._height))
        return list(writer.finish())

    def _rest(self) -> ColumnRuns:
        """The background: what it was and what was freed, without what was filled."""
        was = ~self.alive
        if self._ground < len(was):
            was[self._ground] = True
        owned = concatenate((self._read(was), self._islands))
        rest = foremost(concatenate((_as(self._filled, 0), _as(owned, 1))), self._height)
        return _as(rest.take(rest.mask == 1), self._ground)


def _as(runs: ColumnRuns, number: int) -> ColumnRuns:
    return replace(runs, mask=np.full(len(runs), number))


_NONE = ColumnRuns(*(np.zeros(0, np.int64) for _ in range(4)))
