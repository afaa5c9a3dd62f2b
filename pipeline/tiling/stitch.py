"""Stitcher: the segments of overlapping tiles become those of their picture.

Everything is done on runs: no array of the picture's size is made, for no object and for no task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pipeline.masks.column_runs import ColumnRuns, components, concatenate, merge_runs
from pipeline.masks.rle_writer import RleWriter
from schemas.categories import Categories
from schemas.records import Segment, Task

from .duplicates import NEAR, DuplicateRule, duplicates
from .grid import Tile, TileGrid
from .seams import TileSide, cut_sides, dropped, match_tiles, unconfirmed
from .tile_segments import TileSegments

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_NONE = ColumnRuns(*(np.zeros(0, np.int32) for _ in range(4)))
_COLUMNS = 128
"""Columns of a picture that are sorted at once; bounds memory, changes nothing."""


class Stitcher:
    """Takes the tiles of one picture in the grid's order, for one task.

    - Objects (instance, and panoptic's things) are matched between neighbouring tiles by
      `seam.compare` and joined through as many tiles as they cross. What only a tile that sees
      less of it has found is dropped (`fragments`).
    - Stuff, and every category of the semantic task, is one segment.
    - An instance is the union of its pieces. Panoptic and semantic pieces count only in the kept
      part of their tile, so that nothing overlaps. Where the categories have a background, it is
      all that no other segment has.

    The score and the agreement of an object are those of the pieces that no tile's edge cuts, if
    there are such; else, and for stuff, of all. Of several the mean counts, weighted by pixels.
    What else a segment says is its largest piece's.

    Args:
        grid: The tiles.
        categories: Of all segments.
        task: What the segments answer.
        min_iou: Of two pieces of one object in the window that their tiles share.
        min_area: Smaller segments are dropped, background excepted, pixels.
        min_score: Likewise, for segments that have a score.
        rule: When of two instances one goes that says the same again; None = never.
    """

    def __init__(
        self,
        grid: TileGrid,
        categories: Categories,
        task: Task,
        *,
        min_iou: float,
        min_area: int = 1,
        min_score: float = 0.0,
        rule: DuplicateRule | None = None,
    ) -> None:
        self._grid = grid
        self._hw = (grid.rows[-1].stop, grid.columns[-1].stop)
        self._whole = task == "instance"
        self._things = [
            item.id for item in categories if self._whole or (item.isthing and task == "panoptic")
        ]
        self._background = next(
            (item.id for item in categories if item.is_background and not self._whole), None
        )
        self._min_iou, self._min_area, self._min_score = min_iou, min_area, min_score
        self._rule = rule if self._whole else None
        self._found = TileSegments()
        self._sides: dict[tuple[int, int], tuple[TileSide, Ints]] = {}
        self._same: list[Ints] = []
        self._rivals: list[Ints] = []

    def add(self, tile: Tile, segments: Sequence[Segment]) -> None:
        """Takes the next tile's segments, in its own pixels.

        Raises:
            ValueError: A segment's RLE does not belong to a picture of the tile's size.
        """
        mine = self._found.add(tile, segments)
        category = np.array([one.category_id for one in segments], np.int64)
        thing = np.isin(category, self._things)
        side = TileSide(tile, self._found.runs(len(self._found.tiles) - 1, thing), category)
        row, column = tile.row, tile.column
        for place in ((row - 1, column), *((row + by, column - 1) for by in (-1, 0, 1))):
            if place in self._sides:
                other, theirs = self._sides[place]
                verdict = match_tiles(other, side, min_iou=self._min_iou)
                for pairs, into in ((verdict.same, self._same), (verdict.rivals, self._rivals)):
                    into.append(np.stack((theirs[pairs[:, 0]], mine[pairs[:, 1]]), 1))
        self._sides[row, column] = side, mine
        self._sides.pop((row - 1, column - 1), None)  # nobody asks for it any more
        if row == len(self._grid.rows) - 1:
            self._sides.pop((row, column - 1), None)

    def finish(self) -> list[Segment]:
        """The picture's segments: objects by first tile, stuff by category id, background last."""
        group, count, cut = self._groups()
        means = {
            "score": self._means(self._found.score, group, count, cut),
            "tta_agreement": self._means(self._found.agreement, group, count, cut),
        }
        wanted = self._large_and_sure(group, count, means["score"])
        writer = RleWriter(count + 1, *self._hw)
        group = np.where(wanted[group], group, -1)
        for mask, starts, ends in self._strips(group, count, last=True):
            writer.write(mask, starts, ends)
        faces = self._faces(group)
        stitched: list[Segment] = []
        owner: list[int] = []
        for region in writer.finish():
            number = region.label - 1
            face = faces.get(number, Segment(self._background or 0, b"", 0, (0, 0, 0, 0)))
            one = replace(
                face,
                counts=region.counts,
                area=region.area,
                bbox_xywh=region.bbox_xywh,
                **{name: _or_none(values[number]) for name, values in means.items()},
            )
            stitched.append(one)
            owner.append(number)
        if self._rule is None:
            return stitched
        fragment, tile = self._sight(group, count)
        number = np.array(owner, np.int64)
        gone = duplicates(
            stitched, self._rule, *self._hw, fragment=fragment[number], tile=tile[number]
        )
        return [one for one, out in zip(stitched, gone.tolist(), strict=True) if not out]

    def _groups(self) -> tuple[Ints, int, Flags]:
        """Which segments of tiles belong together.

        Returns:
            The object of each, in the order that segments are to have, −1 where it goes; their
            number n, which itself stands for the background; and whether an edge of its tile
            cuts an object's piece.
        """
        category = self._found.category
        thing = np.isin(category, self._things)
        (stuff,) = np.nonzero(~thing)
        _, first, inverse = np.unique(category[stuff], return_index=True, return_inverse=True)
        edges = np.concatenate((*self._same, np.stack((stuff[first][inverse], stuff), 1)))
        root, number = np.unique(
            components(len(category), edges[:, 0], edges[:, 1]), return_inverse=True
        )
        background = category == (self._background or 0)
        gone = background[root]
        cut = np.zeros(len(category), np.bool_)
        cut[thing], dropped_things = self._fragments(thing, number)
        gone[number[thing]] |= dropped_things
        order = np.lexsort((root, np.where(thing[root], 0, category[root]), ~thing[root]))
        order = order[~gone[order]]
        place = np.full(len(root), -1)
        place[order] = np.arange(len(order))
        return np.where(background, len(order), place[number]), len(order), cut

    def _fragments(self, thing: Flags, number: Ints) -> tuple[Flags, Flags]:
        """Per thing: whether an edge cuts it, and whether it is dropped."""
        (index,) = np.nonzero(thing)
        found = self._found
        place = np.array([(tile.row, tile.column) for tile in found.tiles])[found.tile[index]]
        row, column, boxes = place[:, 0], place[:, 1], found.boxes_xyxy[index]
        sides = cut_sides(self._grid, row, column, boxes)
        cut = np.any(sides, axis=1)
        _, group = np.unique(number[thing], return_inverse=True)
        flags = unconfirmed(self._grid, row, column, boxes, sides, group)
        rivals = np.searchsorted(index, np.concatenate((*self._rivals, np.zeros((0, 2), int))))
        rivals = rivals[~np.any(cut[rivals], axis=1)]  # a fragment is no rival
        score = np.nan_to_num(found.score[thing], nan=1.0)
        return cut, dropped(group, flags, rivals, score)[group]

    def _sight(self, group: Ints, count: int) -> tuple[Flags, Ints]:
        """Per object, and for the background: is each piece at an edge; which tile saw it.

        What several tiles saw has a number of its own: each of them may have outlined another
        level of the same object, and no tile has compared their unions.
        """
        found, last = self._found, (len(self._grid.rows) - 1, len(self._grid.columns) - 1)
        edges = [
            (
                tile.x.start + NEAR if tile.column else -1,
                tile.y.start + NEAR if tile.row else -1,
                tile.x.stop - NEAR if tile.column < last[1] else self._hw[1] + 1,
                tile.y.stop - NEAR if tile.row < last[0] else self._hw[0] + 1,
            )
            for tile in found.tiles
        ]
        at, boxes = np.array(edges)[found.tile], found.boxes_xyxy
        near = np.any(boxes[:, :2] <= at[:, :2], axis=1) | np.any(boxes[:, 2:] >= at[:, 2:], axis=1)
        kept = group >= 0
        fragment = np.bincount(group[kept & ~near], minlength=count + 1) == 0
        tile = np.zeros(count + 1, np.int64)
        tile[group[kept]] = found.tile[kept]
        (several,) = np.nonzero(np.bincount(group[kept], minlength=count + 1) > 1)
        tile[several] = -1 - several
        return fragment, tile

    def _large_and_sure(self, group: Ints, count: int, score: Floats) -> Flags:
        """Per object, and for the background: whether it is to be kept."""
        keep = np.append(~(score[:count] < self._min_score), True)
        if self._min_area > 1:
            area = np.zeros(count + 1, np.int64)
            for mask, starts, ends in self._strips(group, count):
                np.add.at(area, mask, ends - starts)
            keep[:count] &= area[:count] >= self._min_area
        return keep

    def _strips(
        self, group: Ints, count: int, *, last: bool = False
    ) -> Iterator[tuple[Ints, Ints, Ints]]:
        """The runs of all objects and of the background, for some columns after the others.

        Args:
            group: Of each segment of a tile, see `_groups`.
            count: Of objects.
            last: The tiles' strings are not needed again, and freed.

        Yields:
            Object, first pixel and one past the last (column-major indices in the picture),
            ascending.
        """
        rows = len(self._grid.rows)
        left = 0
        carried = _NONE
        for column, span in enumerate(self._grid.columns):
            runs = [carried]
            for tile in range(column * rows, (column + 1) * rows):
                mine = group[self._found.of_tile(tile)]
                part = self._found.runs(tile, (mine >= 0) & (mine < count))
                part = part if self._whole else part.within(*self._found.tiles[tile].inner)
                runs.append(replace(part, mask=mine.astype(np.int32)[part.mask]))
                if last:
                    self._found.forget(tile)
            strip = concatenate(runs)
            del runs
            stop = span.high
            if self._whole and column + 1 < len(self._grid.columns):
                stop = self._grid.columns[column + 1].start  # from there on the next may add
            while left < stop:
                right = min(left + _COLUMNS, stop)
                mask, starts, ends = merge_runs(
                    strip.take((strip.x >= left) & (strip.x < right)), self._hw[0]
                )
                yield mask, starts, ends
                if self._background is not None:
                    gaps = _rest(starts, ends, left * self._hw[0], right * self._hw[0])
                    yield np.full(len(gaps[0]), count), *gaps
                left = right
            carried = strip.take(strip.x >= stop)

    def _means(self, values: Floats, group: Ints, count: int, cut: Flags) -> Floats:
        """A number of each object, and of the background: the mean of its pieces, or NaN."""
        area = self._found.area
        known = ~np.isnan(values) & (group >= 0)
        whole = np.bincount(group[known & ~cut], minlength=count + 1) > 0
        known &= ~(cut & whole[group])
        total = np.bincount(group[known], weights=(values * area)[known], minlength=count + 1)
        weight = np.bincount(group[known], weights=area[known], minlength=count + 1)
        return np.divide(total, weight, out=np.full(count + 1, np.nan), where=weight > 0)

    def _faces(self, group: Ints) -> dict[int, Segment]:
        """What the largest piece of each object, and of the background, says of it."""
        order = np.lexsort((-self._found.area, group))
        first = np.flatnonzero(np.diff(group[order], prepend=-2))
        return {
            number: self._found.rest(index)
            for number, index in zip(
                group[order[first]].tolist(), order[first].tolist(), strict=True
            )
        }


def _rest(starts: Ints, ends: Ints, begin: int, end: int) -> tuple[Ints, Ints]:
    """The runs of begin…end that no other run covers."""
    order = np.argsort(starts)
    low = np.append(begin, np.maximum.accumulate(ends[order]))
    high = np.append(starts[order], end)
    return low[low < high], high[low < high]


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
