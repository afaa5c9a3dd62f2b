"""Tiled: large pictures go through a model in overlapping tiles and come out in one piece."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pipeline.models.checkpoints.families import Segmenter
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.grids.outputs import DenseSegmenter, TileAnswer
from pipeline.tiling.duplicates import DuplicateRule
from pipeline.tiling.grid import Tile, TileGrid, alignment, tile_grid
from pipeline.tiling.stitch import Stitcher
from schemas.config.model import ModelConfig, TilingConfig
from schemas.records import Failure, Sample, Segment, Segmentation, Task, answer

if TYPE_CHECKING:
    from .blend import Blender

# Gives freed memory back to the system.


def give_back() -> None:
    """Returns pages of the C library's heap that nothing uses.

    glibc keeps freed blocks that lie below one that lives on. Where large passing arrays take turns
    with small lasting results, a process grows by gigabytes that it does not use. Other C libraries
    have no such call, and nothing happens.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return
    trim(0)


class Tiled:
    """A `Segmenter` around another: what it sees is never larger than a tile.

    Tiles of several pictures share a batch. Pictures of one tile, and those that somebody has
    prompted by points or boxes, go through as they are.

    Args:
        model: Is shown samples whose `whole` and `corner_yx` say what they were cut from.
        info: Of the model.
        tasks: That it answers.
        options: Of the model; `batch_size` tiles go at once, `min_area` and `min_score` hold for
            what was stitched.
        tiling: Size, overlap and the IoU that joins.
    """

    def __init__(
        self,
        model: Segmenter,
        info: ModelInfo,
        tasks: tuple[Task, ...],
        *,
        options: ModelConfig,
        tiling: TilingConfig,
    ) -> None:
        self._model = model
        self._info = info
        self._tasks = tasks
        self._batch_size = options.batch_size
        self._tiling = tiling
        self._align = alignment(tiling.size, tiling.overlap)
        self._dense = model if isinstance(model, DenseSegmenter) and "semantic" in tasks else None
        own = info.config.get("postprocess", {})
        self._min_area = options.min_area or int(own.get("min_area", 1))
        self._rule = _rule(info)
        self._min_score = max(options.min_score, float(own.get("min_score", 0)))

    def load(self, device: str) -> None:
        """Loads the model."""
        self._model.load(device)

    def segment(self, batch: Sequence[Sample]) -> list[Segmentation]:
        """See `pipeline.models.checkpoints.families.Segmenter`."""
        mosaics = {i: self._mosaic(one) for i, one in enumerate(batch) if self._is_cut(one)}
        plain = [one for i, one in enumerate(batch) if i not in mosaics]
        found = iter(self._model.segment(plain) if plain else ())
        tiles = ((each, *pair) for each in mosaics.values() for pair in each.tiles())
        while some := list(islice(tiles, self._batch_size)):
            answers = self._answers([sample for _, _, sample in some])
            for (mosaic, tile, _), one in zip(some, answers, strict=True):
                mosaic.add(tile, one)
        return [mosaics[i].finish() if i in mosaics else next(found) for i in range(len(batch))]

    def close(self) -> None:
        """Frees the model."""
        self._model.close()

    def _is_cut(self, sample: Sample) -> bool:
        return max(sample.original_hw) > self._tiling.size and not sample.prompts

    def _answers(self, tiles: Sequence[Sample]) -> list[TileAnswer]:
        if self._dense is not None:
            return self._dense.dense(tiles)
        return [TileAnswer(found) for found in self._model.segment(tiles)]

    def _mosaic(self, sample: Sample) -> _Mosaic:
        size, overlap = self._tiling.size, self._tiling.overlap
        grid = tile_grid(*sample.original_hw, tile=size, overlap=overlap, align=self._align)
        stitchers: dict[Task, Stitcher] = {
            task: Stitcher(
                grid,
                self._info.categories,
                task,
                min_iou=self._tiling.min_iou,
                min_area=self._min_area,
                min_score=self._min_score,
                rule=self._rule,
            )
            for task in self._tasks
            if task != "semantic" or self._dense is None
        }
        return _Mosaic(sample, grid, self._tasks, stitchers, self._blender(grid))

    def _blender(self, grid: TileGrid) -> Blender | None:
        if self._dense is None:
            return None
        from .blend import Blender

        # A family that is asked for its categories knows alone which map is which.
        ids = self._info.category_ids or self._dense.category_ids
        return Blender(
            grid, overlap=self._tiling.overlap, category_ids=ids, prompts=self._dense.prompts
        )


def _rule(info: ModelInfo) -> DuplicateRule | None:
    """What a promptable model suppresses in a tile is suppressed in the whole picture, too."""
    request = info.asking
    if request is None:
        return None
    if info.family == "sam":
        return DuplicateRule(request.everything.box_nms_thresh)
    conflicts = request.conflicts
    return DuplicateRule(
        conflicts.nms_iou,
        inside=conflicts.nms_ios,
        across_categories=conflicts.across_categories,
    )


class _Mosaic:
    """One picture while its tiles are with the model."""

    def __init__(
        self,
        sample: Sample,
        grid: TileGrid,
        tasks: tuple[Task, ...],
        stitchers: dict[Task, Stitcher],
        blender: Blender | None,
    ) -> None:
        self._sample = sample
        self._grid = grid
        self._tasks = tasks
        self._stitchers = stitchers
        self._blender = blender
        self._failure: Failure | None = None

    def tiles(self) -> Iterator[tuple[Tile, Sample]]:
        """The tiles as samples of their own; none follows once one has failed."""
        whole, hw = self._sample.pixels, self._sample.original_hw
        if whole.shape[:2] != hw:  # scaled down in decoding: tiles are cut from full size
            whole = np.asarray(
                cv2.resize(whole, hw[::-1], interpolation=cv2.INTER_LINEAR), np.uint8
            )
        for tile in self._grid:
            if self._failure is not None:
                return
            yield (
                tile,
                replace(
                    self._sample,
                    pixels=np.ascontiguousarray(whole[tile.outer]),
                    original_hw=tile.hw,
                    whole=whole,
                    corner_yx=(tile.y.start, tile.x.start),
                ),
            )

    def add(self, tile: Tile, found: TileAnswer) -> None:
        """Takes a tile's answer, in the order of `tiles`."""
        if self._failure is not None:
            return
        if (failure := found.segmentation.failure) is not None:
            where = f"tile at x = {tile.x.start}, y = {tile.y.start}: {failure.message}"
            self._failure = replace(failure, message=where)
            return
        for task, stitcher in self._stitchers.items():
            # A model that answers one task does not name it.
            mine = [one for one in found.segmentation.segments if one.task in (task, None)]
            stitcher.add(tile, mine)
        if self._blender is not None and found.dense is not None:
            self._blender.add(tile, found.dense)
        if tile.row == len(self._grid.rows) - 1:
            give_back()

    def finish(self) -> Segmentation:
        """The picture's labels, or the failure of a tile."""
        hw = self._sample.original_hw
        if self._failure is not None:
            return Segmentation(*hw, failure=self._failure)
        found: dict[Task, Sequence[Segment]] = {}
        for task in self._tasks:
            join = self._stitchers.get(task, self._blender)
            found[task] = join.finish() if join is not None else ()
        return answer(*hw, found)
