"""A classical baseline without weights: Otsu's threshold and connected components."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.masks import encode, regions
from schemas.config import ModelConfig
from schemas.records import Sample, Segment, Segmentation, Task, answer

from .info import ModelInfo

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

    def load(self, device: str) -> None:
        """Nothing to load; runs on the CPU whatever `device` says."""

    def close(self) -> None:
        """Nothing to free."""

    def segment(self, batch: Sequence[Sample]) -> list[Segmentation]:
        """See `pipeline.models.Segmenter`."""
        return [self._one(sample) for sample in batch]

    def _one(self, sample: Sample) -> Segmentation:
        grey = cv2.transform(sample.pixels, _MEAN).reshape(sample.pixels.shape[:2])
        height, width = sample.original_hw
        if grey.shape != sample.original_hw:
            grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_LINEAR)
        grey = np.asarray(grey, np.uint8)
        label_map, cut = self._label_map(grey)
        found: dict[Task, list[Segment]] = {
            task: self._found(task, grey, label_map, cut) for task in self._tasks
        }
        return answer(height, width, found)

    def _found(
        self,
        task: Task,
        grey: npt.NDArray[np.uint8],
        label_map: npt.NDArray[np.int32],
        cut: float,
    ) -> list[Segment]:
        found: list[Segment] = []
        kept = np.zeros(1, bool) if not label_map.any() else np.zeros(label_map.max() + 1, bool)
        if task == "semantic":
            label_map = (label_map > 0).astype(np.int32)
        total = np.bincount(label_map.ravel(), weights=grey.ravel())
        for region in regions(label_map):
            contrast = float(total[region.label]) / region.area - cut
            score = round(min(1.0, max(0.0, 0.5 + contrast / 255)), 4)
            if score >= self._min_score and region.area >= self._min_area:
                kept[region.label] = True
                found.append(Segment(_OBJECT, region.counts, region.area, region.bbox_xywh, score))
        if task != "instance":
            ground = ~kept[label_map]
            if ground.any():
                (region,) = regions(ground.astype(np.int32))
                found.append(Segment(_BACKGROUND, encode(ground), region.area, region.bbox_xywh))
        return found

    def _label_map(self, grey: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int32], float]:
        """Components larger than `min_area`, 1…n, and the threshold in grey levels."""
        shares = np.cumsum(np.bincount(grey.ravel(), minlength=256)) / grey.size
        low, high = np.searchsorted(shares, (0.01, 0.99)).tolist()
        if high - low < self._min_contrast:
            return np.zeros(grey.shape, np.int32), 255.0
        if self._threshold is None:
            cut, mask = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        else:
            cut = self._threshold * 255
            mask = (grey > cut).astype(np.uint8)
        _, label_map, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        small = stats[:, cv2.CC_STAT_AREA] < self._min_area
        small[0] = True
        renumbered = np.where(small, 0, np.cumsum(~small)).astype(np.int32)
        return renumbered[np.asarray(label_map, np.intp)], float(cut)
