"""A classical baseline without weights: Otsu's threshold and connected components."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.images.stretch import histogram
from pipeline.masks.codec import encode, regions
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.tiling.grid import PerPicture, TileEdge
from schemas.config.model import ModelConfig
from schemas.records import Sample, Segment, Segmentation, Task, answer

_OBJECT, _BACKGROUND = 1, 2
_MEAN = np.full((1, 3), 1 / 3, np.float32)


class OtsuSegmenter:
    """Bright regions on a dark ground.

    Source: N. Otsu, "A threshold selection method from gray-level histograms", 1979.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        defaults = info.config["postprocess"]
        self._tasks = tasks
        self._threshold = options.threshold
        self._min_score = options.min_score
        self._min_area = options.min_area or int(defaults["min_area"])
        self._min_contrast = int(defaults["min_contrast"])
        self._cut_of = PerPicture(lambda whole: self._cut(histogram(whole, _grey)))

    def load(self, device: str) -> None:
        """Nothing to load; runs on the CPU whatever `device` says."""

    def close(self) -> None:
        """Nothing to free."""

    def segment(self, batch: Sequence[Sample]) -> list[Segmentation]:
        """See `pipeline.models.checkpoints.families.Segmenter`."""
        return [self._one(sample) for sample in batch]

    def _one(self, sample: Sample) -> Segmentation:
        grey = _grey(sample.pixels)
        height, width = sample.original_hw
        if grey.shape != sample.original_hw:
            grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_LINEAR)
        grey = np.asarray(grey, np.uint8)
        edge = TileEdge.of(sample)
        cut = self._cut(histogram(grey)) if sample.whole is None else self._cut_of(sample.whole)
        label_map = self._label_map(grey, cut, edge=edge)
        found: dict[Task, list[Segment]] = {
            task: self._found(task, grey, label_map, cut, edge=edge) for task in self._tasks
        }
        return answer(height, width, found)

    def _found(
        self,
        task: Task,
        grey: npt.NDArray[np.uint8],
        label_map: npt.NDArray[np.int32],
        cut: float,
        *,
        edge: TileEdge,
    ) -> list[Segment]:
        found: list[Segment] = []
        kept = np.zeros(1, bool) if not label_map.any() else np.zeros(label_map.max() + 1, bool)
        if task == "semantic":
            label_map = (label_map > 0).astype(np.int32)
        unjudged = frozenset(edge.labels(label_map).tolist())
        total = np.bincount(label_map.ravel(), weights=grey.ravel())
        for region in regions(label_map):
            contrast = float(total[region.label]) / region.area - cut
            score = round(min(1.0, max(0.0, 0.5 + contrast / 255)), 4)
            good = score >= self._min_score and region.area >= self._min_area
            if good or region.label in unjudged:
                kept[region.label] = True
                found.append(Segment(_OBJECT, region.counts, region.area, region.bbox_xywh, score))
        if task != "instance":
            ground = ~kept[label_map]
            if ground.any():
                (region,) = regions(ground.astype(np.int32))
                found.append(Segment(_BACKGROUND, encode(ground), region.area, region.bbox_xywh))
        return found

    def _cut(self, counts: npt.NDArray[np.int64]) -> float:
        """The grey level above which a picture of this histogram has objects; 255 = it has none."""
        shares = np.cumsum(counts) / counts.sum()
        low, high = np.searchsorted(shares, (0.01, 0.99)).tolist()
        if high - low < self._min_contrast:
            return 255.0
        return _otsu(counts) if self._threshold is None else self._threshold * 255

    def _label_map(
        self, grey: npt.NDArray[np.uint8], cut: float, *, edge: TileEdge
    ) -> npt.NDArray[np.int32]:
        """Components of at least `min_area`, 1…n; also those that a tile's edge cuts."""
        mask = (grey > cut).astype(np.uint8)
        _, components, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        label_map = np.asarray(components, np.intp)
        small = stats[:, cv2.CC_STAT_AREA] < self._min_area
        small[edge.labels(label_map)] = False
        small[0] = True
        renumbered = np.where(small, 0, np.cumsum(~small)).astype(np.int32)
        return renumbered[label_map]


def _grey(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.transform(pixels, _MEAN).reshape(pixels.shape[:2]), np.uint8)


def _otsu(counts: npt.NDArray[np.int64]) -> float:
    """The level that sets the two sides furthest apart: their variance between is largest."""
    total, weighted = counts.sum(), (counts * np.arange(256)).sum()
    below, sum_below = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    above = total - below
    inside = (below > 0) & (above > 0)
    apart = np.zeros(256)
    b, a, s = below[inside], above[inside], sum_below[inside]
    apart[inside] = (s / b - (weighted - s) / a) ** 2 * (b / total) * (a / total)
    return float(apart.argmax())
