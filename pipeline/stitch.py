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
from .fragments import cut_sides, dropped, unconfirmed
from .run_writer import RunWriter
from .seam import Side, compare
from .transforms.tiling import Tile, TileGrid

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
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
        group, count, cut = self._groups()
        means = {name: self._means(name, group, cut) for name in ("score", "tta_agreement")}
        wanted = self._large_and_sure(group, count, means["score"])
        writer = RunWriter(count + 1, *self._hw)
        for strip, (mask, starts, ends) in zip(
            self._grid.columns, self._strips(np.where(wanted[group], group, -1), count), strict=True
        ):
            writer.write(mask, starts, ends)
            if self._background is not None:
                bounds = strip.low * self._hw[0], strip.high * self._hw[0]
                gaps = _rest(starts, ends, *bounds)
                writer.write(np.full(len(gaps[0]), count), *gaps)
        faces = self._faces(group)
        return [
            replace(
                faces.get(region.label - 1, Segment(self._background or 0, b"", 0, (0, 0, 0, 0))),
                counts=region.counts,
                area=region.area,
                bbox_xywh=region.bbox_xywh,
                **{name: _or_none(values[region.label - 1]) for name, values in means.items()},
            )
            for region in writer.finish()
        ]

    def _groups(self) -> tuple[Ints, int, Flags]:
        """Which pieces belong together.

        Returns:
            The object of each piece, in the order that segments are to have, −1 where it goes;
            their number n, which itself stands for the background; and whether a tile's edge
            cuts the piece of an object.
        """
        category = np.array([one.category_id for one in self._pieces], np.int64)
        thing = np.isin(category, list(self._things))
        (stuff,) = np.nonzero(~thing)
        _, first, inverse = np.unique(category[stuff], return_index=True, return_inverse=True)
        edges = np.concatenate((*self._same, np.stack((stuff[first][inverse], stuff), 1)))
        root, number = np.unique(
            connected(len(category), edges[:, 0], edges[:, 1]), return_inverse=True
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
        tile = np.searchsorted(self._first, index, side="right") - 1
        where = np.array([(t.row, t.column, t.x.start, t.y.start) for t in self._tiles], np.int64)
        row, column, left, top = where[tile].T
        x, y, w, h = np.array([self._pieces[i].bbox_xywh for i in index], np.int64).reshape(-1, 4).T
        boxes = np.stack((left + x, top + y, left + x + w, top + y + h), 1)
        cut = cut_sides(self._grid, row, column, boxes)
        _, group = np.unique(number[thing], return_inverse=True)
        flags = unconfirmed(self._grid, row, column, boxes, cut, group)
        rivals = np.searchsorted(index, np.concatenate((*self._rivals, np.zeros((0, 2), int))))
        score = np.nan_to_num(self._values("score")[thing], nan=1.0)
        return np.any(cut, axis=1), dropped(group, flags, rivals, score)[group]

    def _large_and_sure(self, group: Ints, count: int, score: Floats) -> Flags:
        """Per object, and for the background: whether it is to be kept."""
        keep = np.append(~(score[:count] < self._min_score), True)
        if self._min_area > 1:
            area = np.zeros(count + 1, np.int64)
            for mask, starts, ends in self._strips(group, count):
                np.add.at(area, mask, ends - starts)
            keep[:count] &= area[:count] >= self._min_area
        return keep

    def _strips(self, group: Ints, count: int) -> Iterator[tuple[Ints, Ints, Ints]]:
        """The runs of all objects, for one column of tiles after the other.

        Args:
            group: Of each piece, see `_groups`.
            count: Of objects.

        Yields:
            Object, first pixel and one past the last (column-major indices in the picture).
        """
        rows = len(self._grid.rows)
        counts = (group >= 0) & (group < count)
        carried: list[ColumnRuns] = []
        for column, span in enumerate(self._grid.columns):
            runs = carried
            for number in range(column * rows, (column + 1) * rows):
                first, end = self._first[number : number + 2]
                pieces = first + np.flatnonzero(counts[first:end])
                part = _placed([self._pieces[i].counts for i in pieces], self._tiles[number])
                part = part if self._whole else part.within(*self._tiles[number].inner)
                runs.append(replace(part, mask=group[pieces[part.mask]]))
            strip = concatenate(runs)
            stop = span.high
            if self._whole and column + 1 < len(self._grid.columns):
                stop = self._grid.columns[column + 1].start  # from there on the next may add
            carried = [strip.take(strip.x >= stop)]
            yield merged(strip.take(strip.x < stop), self._hw[0])

    def _values(self, name: str) -> Floats:
        """A number of each piece, NaN where it has none."""
        return np.array([getattr(one, name) for one in self._pieces], np.float64)

    def _means(self, name: str, group: Ints, cut: Flags) -> Floats:
        """A number of each object, and of the background: the mean of its pieces, or NaN."""
        count = int(group.max(initial=-1)) + 2
        values, area = self._values(name), self._values("area")
        known = ~np.isnan(values) & (group >= 0)
        whole = np.bincount(group[known & ~cut], minlength=count) > 0
        known &= ~(cut & whole[group])
        total = np.bincount(group[known], weights=(values * area)[known], minlength=count)
        weight = np.bincount(group[known], weights=area[known], minlength=count)
        return np.divide(total, weight, out=np.full(count, np.nan), where=weight > 0)

    def _faces(self, group: Ints) -> dict[int, Segment]:
        """The largest piece of each object, and of the background."""
        faces: dict[int, Segment] = {}
        order = np.lexsort((-self._values("area"), group))
        tile = np.searchsorted(self._first, order, side="right") - 1
        for index, number, where in zip(
            order.tolist(), group[order].tolist(), tile.tolist(), strict=True
        ):
            if number not in faces:
                piece = self._pieces[index]
                moved = _moved(piece.evidence, self._tiles[where])
                faces[number] = replace(piece, evidence=moved)
        return faces


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
