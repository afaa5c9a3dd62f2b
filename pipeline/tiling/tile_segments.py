"""TileSegments: the segments of all tiles of a picture, packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.masks.column_runs import ColumnRuns, read_column_runs
from schemas.records import Evidence, Segment

from .grid import Tile

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class TileSegments:
    """Holds strings and numbers side by side: a picture may have half a million segments.

    They are numbered from 0 in the order of their tiles.
    """

    def __init__(self) -> None:
        self.tiles: list[Tile] = []
        self._first = [0]
        self._texts: list[tuple[bytes, npt.NDArray[np.int32]]] = []  # strings, where each begins
        self._whole: list[Ints] = []  # category, area, x, y, w, h
        self._real: list[Floats] = []  # score, agreement
        self._rest: list[Segment] = []  # everything else; mostly the same object
        self._known: dict[Segment, Segment] = {}

    def add(self, tile: Tile, segments: Sequence[Segment]) -> Ints:
        """Takes a tile's segments, in its own pixels; returns their numbers."""
        self.tiles.append(tile)
        self._first.append(self._first[-1] + len(segments))
        begins = np.cumsum([0, *(len(one.counts) for one in segments)]).astype(np.int32)
        self._texts.append((b"".join(one.counts for one in segments), begins))
        whole = [(one.category_id, one.area, *one.bbox_xywh) for one in segments]
        self._whole.append(np.array(whole, np.int64).reshape(-1, 6))
        real = [(one.score, one.tta_agreement) for one in segments]
        self._real.append(np.array(real, np.float64).reshape(-1, 2))
        for one in segments:
            rest = replace(
                one,
                counts=b"",
                area=0,
                bbox_xywh=(0, 0, 0, 0),
                score=None,
                tta_agreement=None,
                evidence=_moved(one.evidence, tile),
            )
            self._rest.append(self._known.setdefault(rest, rest))
        return np.arange(self._first[-2], self._first[-1])

    def __len__(self) -> int:
        return self._first[-1]

    @property
    def category(self) -> Ints:
        """Category id of each segment."""
        return self._integers()[:, 0]

    @property
    def area(self) -> Ints:
        """Pixels of each segment."""
        return self._integers()[:, 1]

    @property
    def score(self) -> Floats:
        """Score of each segment, NaN where it has none."""
        return self._reals()[:, 0]

    @property
    def agreement(self) -> Floats:
        """Agreement of each segment under test-time augmentation, NaN where it has none."""
        return self._reals()[:, 1]

    @property
    def boxes_xyxy(self) -> Ints:
        """Boxes in the picture, n×4 pixels, one past the last on the right and below."""
        corner = np.array([(tile.x.start, tile.y.start) for tile in self.tiles], np.int64)
        near = self._integers()[:, 2:4] + corner[self.tile]
        return np.hstack((near, near + self._integers()[:, 4:]))

    @property
    def tile(self) -> Ints:
        """Index of each segment's tile."""
        return np.repeat(np.arange(len(self.tiles)), np.diff(self._first))

    def of_tile(self, tile: int) -> slice:
        """The numbers of a tile's segments."""
        return slice(self._first[tile], self._first[tile + 1])

    def runs(self, tile: int, chosen: npt.NDArray[np.bool_]) -> ColumnRuns:
        """Some segments of a tile, in the picture's coordinates.

        Args:
            tile: Index of the tile.
            chosen: One flag a segment of the tile.

        Returns:
            Runs whose `mask` is the index among the tile's segments.

        Raises:
            ValueError: A string does not belong to a picture of the tile's size.
        """
        (which,) = np.nonzero(chosen)
        where = self.tiles[tile]
        runs = read_column_runs(self._strings(tile).take(pa.array(which)), *where.hw)
        top, left = where.y.start, where.x.start
        index = which.astype(np.int32)[runs.mask]
        return ColumnRuns(index, runs.x + left, runs.top + top, runs.bottom + top)

    def forget(self, tile: int) -> None:
        """Frees a tile's strings."""
        self._texts[tile] = b"", np.zeros(1, np.int32)

    def rest(self, number: int) -> Segment:
        """What a segment says beside its mask and its scores, evidence in the picture's pixels."""
        return self._rest[number]

    def _strings(self, tile: int) -> pa.StringArray:
        text, begins = self._texts[tile]
        return pa.StringArray.from_buffers(
            len(begins) - 1, pa.py_buffer(begins), pa.py_buffer(text)
        )

    def _integers(self) -> Ints:
        if len(self._whole) > 1:
            self._whole = [np.concatenate(self._whole)]
        return self._whole[0]

    def _reals(self) -> Floats:
        if len(self._real) > 1:
            self._real = [np.concatenate(self._real)]
        return self._real[0]


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
