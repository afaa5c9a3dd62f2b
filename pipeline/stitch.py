"""Stitcher: the segments of overlapping tiles become those of their picture.

Everything is done on runs: no array of the picture's size is made, for no object and for no task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from schemas.categories import Categories
from schemas.records import Evidence, Segment, Task

from .column_runs import ColumnRuns, concatenate, connected, merged, read_column_runs
from .fragments import dropped, unconfirmed
from .masks import Region
from .run_writer import RunWriter
from .seam import Side, compare
from .transforms.tiling import Tile, TileGrid

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Stitcher:
    """Takes the tiles of one picture in the grid's order, for one task.

    - Objects (instance, and panoptic's things) are matched between neighbouring tiles by
      `seam.compare` and joined through as many tiles as they cross. What only a tile that sees
      less of it has found is dropped (`fragments`).
    - Stuff, and every category of the semantic task, is one segment.
    - An instance is the union of its pieces. Panoptic and semantic pieces count only in the kept
      part of their tile, so that nothing overlaps. Where the categories have a background, it is
      all that no other segment has.

    Scores and agreements are means over the pieces, weighted by their pixels; what else a segment
    says is its largest piece's.

    Args:
        grid: The tiles.
        categories: Of all segments.
        task: What the segments answer.
        min_iou: Of two pieces of one object in the window that their tiles share.
        min_area: Smaller segments are dropped, background excepted, pixels.
        min_score: Likewise, for segments that have a score.
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
    ) -> None:
        self._grid = grid
        self._hw = (grid.rows[-1].stop, grid.columns[-1].stop)
        self._whole = task == "instance"
        self._things = frozenset(
            item.id for item in categories if self._whole or (item.isthing and task == "panoptic")
        )
        self._background = next(
            (item.id for item in categories if item.is_background and not self._whole), None
        )
        self._min_iou, self._min_area, self._min_score = min_iou, min_area, min_score
        self._pieces: list[Segment] = []
        self._first: list[int] = [0]  # index of each tile's first piece, and the end
        self._tiles: list[Tile] = []
        self._sides: dict[tuple[int, int], tuple[Side, Ints]] = {}
        self._same: list[Ints] = []
        self._rivals: list[Ints] = []

    def add(self, tile: Tile, segments: Sequence[Segment]) -> None:
        """Takes the next tile's segments, in its own pixels.

        Raises:
            ValueError: A segment's RLE does not belong to a picture of the tile's size.
        """
        first = len(self._pieces)
        self._pieces += segments
        self._first.append(len(self._pieces))
        self._tiles.append(tile)
        things = [i for i, one in enumerate(segments) if one.category_id in self._things]
        side = Side(
            tile,
            _placed([segments[i].counts for i in things], tile),
            np.array([segments[i].category_id for i in things], np.int64),
        )
        mine = first + np.array(things, np.int64)
        row, column = tile.row, tile.column
        for place in ((row - 1, column), *((row + by, column - 1) for by in (-1, 0, 1))):
            if place in self._sides:
                other, theirs = self._sides[place]
                verdict = compare(other, side, min_iou=self._min_iou)
                for pairs, into in ((verdict.same, self._same), (verdict.rivals, self._rivals)):
                    into.append(np.stack((theirs[pairs[:, 0]], mine[pairs[:, 1]]), 1))
        self._sides[row, column] = side, mine
        self._sides.pop((row - 1, column - 1), None)  # nobody asks for it any more
        if row == len(self._grid.rows) - 1:
            self._sides.pop((row, column - 1), None)

    def finish(self) -> list[Segment]:
        """The picture's segments: objects by first tile, stuff by category id, background last."""
        group, count = self._groups()
        pixels = np.zeros(len(self._pieces), np.int64)
        if self._min_area > 1 or self._min_score > 0:
            group, count = self._large_and_sure(group, count)
        writer = RunWriter(count + 1, *self._hw)
        for strip, (mask, starts, ends) in zip(
            self._grid.columns, self._strips(group, count, pixels), strict=True
        ):
            writer.write(mask, starts, ends)
            if self._background is not None:
                bounds = strip.low * self._hw[0], strip.high * self._hw[0]
                gaps = _rest(starts, ends, *bounds)
                writer.write(np.full(len(gaps[0]), count), *gaps)
        return self._segments(writer.finish(), group, count, pixels)

    def _groups(self) -> tuple[Ints, int]:
        """The object of each piece, in the order that segments are to have, and their number n.

        n itself stands for the background, −1 for what goes.
        """
        category = np.array([one.category_id for one in self._pieces], np.int64)
        thing = np.isin(category, list(self._things))
        (stuff,) = np.nonzero(~thing)
        _, first, inverse = np.unique(category[stuff], return_index=True, return_inverse=True)
        edges = np.concatenate((*self._same, np.stack((stuff[first][inverse], stuff), 1)))
        root, number = np.unique(
            connected(len(category), edges[:, 0], edges[:, 1]), return_inverse=True
        )
        gone = category[root] == (self._background or 0)
        gone[number[thing]] |= self._fragments(thing, number[thing])
        order = np.lexsort((root, np.where(thing[root], 0, category[root]), ~thing[root]))
        place = np.full(len(root), -1)
        count = int(np.count_nonzero(~gone))
        place[order[~gone[order]]] = np.arange(count)
        group = place[number]
        group[category == (self._background or 0)] = count
        return group, count

    def _fragments(self, thing: npt.NDArray[np.bool_], number: Ints) -> npt.NDArray[np.bool_]:
        """Per thing, whether its group is dropped."""
        (index,) = np.nonzero(thing)
        tile = np.searchsorted(self._first, index, side="right") - 1
        where = np.array([(t.row, t.column, t.x.start, t.y.start) for t in self._tiles], np.int64)
        row, column, left, top = where.reshape(-1, 4)[tile].T
        x, y, w, h = np.array([self._pieces[i].bbox_xywh for i in index], np.int64).reshape(-1, 4).T
        boxes = np.stack((left + x, top + y, left + x + w, top + y + h), 1)
        _, group = np.unique(number, return_inverse=True)
        rivals = np.searchsorted(index, np.concatenate((*self._rivals, np.zeros((0, 2), int))))
        score = np.nan_to_num(self._values("score")[index], nan=1.0)
        flags = unconfirmed(self._grid, row, column, boxes, group)
        return dropped(group, flags, rivals, score)[group]

    def _large_and_sure(self, group: Ints, count: int) -> tuple[Ints, int]:
        """`_groups` without the objects below `min_area` and `min_score`."""
        pixels = np.zeros(len(self._pieces), np.int64)
        area = np.zeros(count + 1, np.int64)
        for mask, starts, ends in self._strips(group, count, pixels):
            area += np.bincount(mask, weights=ends - starts, minlength=count + 1).astype(np.int64)
        score = _means(self._values("score"), pixels, group, count + 1)
        keep = (area >= self._min_area) & ~(score < self._min_score)
        keep[count] = True
        place = np.where(keep, np.cumsum(keep) - 1, -1)
        return np.where(group < 0, -1, place[group]), int(place[count])

    def _strips(self, group: Ints, count: int, pixels: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
        """The runs of all groups but the background, for one column of tiles after the other.

        Args:
            group: Of each piece, see `_groups`.
            count: Of groups.
            pixels: Receives what each piece has in the part of its tile that counts.

        Yields:
            Group, first pixel and one past the last (column-major indices in the picture).
        """
        height, rows = self._hw[0], len(self._grid.rows)
        carried: list[ColumnRuns] = []
        for column, span in enumerate(self._grid.columns):
            runs = carried
            for number in range(column * rows, (column + 1) * rows):
                part = self._runs_of(number, group)
                first, end = self._first[number : number + 2]
                pixels[first:end] = np.bincount(
                    part.mask - first, weights=part.bottom - part.top, minlength=end - first
                )
                runs.append(replace(part, mask=group[part.mask]).take(group[part.mask] < count))
            strip = concatenate(runs)
            stop = span.high
            if self._whole and column + 1 < len(self._grid.columns):
                stop = self._grid.columns[column + 1].start  # from there on the next may add
            carried = [strip.take(strip.x >= stop)]
            yield merged(strip.take(strip.x < stop), height)

    def _runs_of(self, number: int, group: Ints) -> ColumnRuns:
        """What counts of a tile's pieces, dropped ones excepted; `mask` is the piece's index."""
        tile, first, end = self._tiles[number], self._first[number], self._first[number + 1]
        kept = first + np.flatnonzero(group[first:end] >= 0)
        runs = _placed([self._pieces[i].counts for i in kept], tile)
        runs = replace(runs, mask=kept[runs.mask])
        return runs if self._whole else runs.within(*tile.inner)

    def _values(self, name: str) -> Floats:
        """A number of each piece, NaN where it has none."""
        return np.array([getattr(one, name) for one in self._pieces], np.float64)

    def _segments(
        self, regions: Sequence[Region], group: Ints, count: int, pixels: Ints
    ) -> list[Segment]:
        score, agreement = (
            _means(self._values(name), pixels, group, count + 1)
            for name in ("score", "tta_agreement")
        )
        order = np.lexsort((-pixels, group))
        order = order[group[order] >= 0]
        face = dict(zip(group[order[::-1]].tolist(), order[::-1].tolist(), strict=True))
        found = []
        for region in regions:
            index = region.label - 1
            segment = Segment(self._background or 0, b"", 0, (0, 0, 0, 0))
            if index in face:
                piece = face[index]
                tile = self._tiles[np.searchsorted(self._first, piece, side="right") - 1]
                segment = self._pieces[piece]
                segment = replace(segment, evidence=_moved(segment.evidence, tile))
            found.append(
                replace(
                    segment,
                    counts=region.counts,
                    area=region.area,
                    bbox_xywh=region.bbox_xywh,
                    score=_or_none(score[index]),
                    tta_agreement=_or_none(agreement[index]),
                )
            )
        return found


def _placed(texts: Sequence[bytes], tile: Tile) -> ColumnRuns:
    """A tile's masks in the picture's coordinates."""
    runs = read_column_runs(texts, *tile.hw)
    top, left = tile.y.start, tile.x.start
    return ColumnRuns(runs.mask, runs.x + left, runs.top + top, runs.bottom + top)


def _rest(starts: Ints, ends: Ints, begin: int, end: int) -> tuple[Ints, Ints]:
    """The runs of begin…end that no other run covers."""
    order = np.argsort(starts)
    low = np.append(begin, np.maximum.accumulate(ends[order]))
    high = np.append(starts[order], end)
    return low[low < high], high[low < high]


def _means(values: Floats, pixels: Ints, group: Ints, count: int) -> Floats:
    """The mean of each group's values, weighted by pixels; NaN where it has none."""
    known = ~np.isnan(values) & (group >= 0)
    total = np.bincount(group[known], weights=(values * pixels)[known], minlength=count)
    weight = np.bincount(group[known], weights=pixels[known], minlength=count)
    return np.divide(total, weight, out=np.full(count, np.nan), where=weight > 0)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _moved(evidence: Evidence | None, tile: Tile) -> Evidence | None:
    """Evidence of a tile's segment, in the picture's coordinates."""
    if evidence is None:
        return None
    left, top = tile.x.start, tile.y.start
    point, crop, box = evidence.point_xy, evidence.crop_xywh, evidence.prompt_bbox_xywh
    return replace(
        evidence,
        point_xy=point and (point[0] + left, point[1] + top),
        crop_xywh=crop and (crop[0] + left, crop[1] + top, crop[2], crop[3]),
        prompt_bbox_xywh=box and (box[0] + left, box[1] + top, box[2], box[3]),
    )
