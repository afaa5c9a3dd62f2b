"""The family `unet`: pictures → nuclei and background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.masks import codec
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.nuclei.decode import Decoding, decode_nuclei
from pipeline.models.nuclei.predict import picture_range
from pipeline.tiling.grid import PerPicture, TileEdge
from schemas.config.model import ModelConfig
from schemas.records import Sample, Segment, Segmentation, Task, answer

if TYPE_CHECKING:
    from pipeline.models.nuclei.net import UNet

_NUCLEUS = 1
_BACKGROUND = 2


class UNetSegmenter:
    """Labels pictures with a `unet` checkpoint; see `families.Segmenter`.

    Args:
        info: The checkpoint.
        options: `threshold`, `min_area` and `min_score` go before the checkpoint's own values;
            with a `threshold`, a picture's best nucleus need not be a sure one (`min_best`).
        tasks: "instance" yields nuclei; "panoptic" nuclei and one background segment of all other
            pixels; "semantic" one nucleus region and one background region.

    Raises:
        ValueError: The checkpoint's config.json has unknown post-processing keys.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        self._info = info
        self._tasks = tasks
        self._batch_size = options.batch_size
        self._decoding = _decoding(info, options)
        self._range = PerPicture(picture_range)
        self._device = "cpu"
        self._net: UNet | None = None

    def load(self, device: str) -> None:
        """Reads the weights and folds them for inference.

        Raises:
            ValueError: The weights do not fit the architecture in config.json.
        """
        from pipeline.models.nuclei.net import load_unet

        self._net = load_unet(Path(self._info.folder), self._info.config).fused(device)
        self._device = device

    def segment(self, batch: Sequence[Sample]) -> list[Segmentation]:
        """Labels pictures of any sizes, each as if it were alone.

        Raises:
            RuntimeError: `load` was not called.
        """
        from pipeline.models.nuclei.predict import predict_batch, predict_maps

        if self._net is None:
            raise RuntimeError("load() has to be called before segment()")
        pixels = [sample.pixels for sample in batch]
        bounds = [self._range(s.pixels if s.whole is None else s.whole) for s in batch]
        if self._device == "cpu":
            # One at a time is as fast on a CPU, and no sum is ever ordered by a neighbour's size.
            maps = (
                predict_maps(self._net, each, self._device, bounds=its)
                for each, its in zip(pixels, bounds, strict=True)
            )
        else:
            maps = predict_batch(
                self._net, pixels, self._device, batch_size=self._batch_size, bounds=bounds
            )
        return [self._segmentation(*pair) for pair in zip(batch, maps, strict=True)]

    def close(self) -> None:
        """Frees the weights."""
        self._net = None

    def _segmentation(self, sample: Sample, maps: npt.NDArray[np.float32]) -> Segmentation:
        label_map, scores = decode_nuclei(maps, self._decoding, edge=TileEdge.of(sample))
        interior = maps[0]
        height, width = sample.original_hw
        if label_map.shape != (height, width):
            label_map = _enlarge(label_map, height, width)
            interior = cv2.resize(interior, (width, height), interpolation=cv2.INTER_LINEAR)
        found: dict[Task, list[Segment]] = {
            task: self._found(task, label_map, scores, interior) for task in self._tasks
        }
        return answer(height, width, found)

    @staticmethod
    def _found(
        task: Task,
        label_map: npt.NDArray[np.int32],
        scores: npt.NDArray[np.float64],
        interior: npt.NDArray[np.float32],
    ) -> list[Segment]:
        if task == "semantic":
            segments = _regions((label_map > 0).astype(np.int32), _NUCLEUS)
            segments = [replace(s, score=_mean(interior, label_map > 0)) for s in segments]
        else:
            segments = _regions(label_map, _NUCLEUS, scores)
        if task != "instance":
            rest = label_map == 0
            score = _mean(1 - interior, rest)
            ground = _regions(rest.astype(np.int32), _BACKGROUND)
            segments += [replace(s, score=score) for s in ground]
        return segments


def _decoding(info: ModelInfo, options: ModelConfig) -> Decoding:
    known = {field.name for field in fields(Decoding)}
    own = dict(info.config.get("postprocess", {}))
    unknown = sorted(set(own) - known)
    if unknown:
        raise ValueError(f"{info.folder}: unknown postprocess keys: {', '.join(unknown)}")
    decoding = Decoding(**own)
    if options.threshold is not None:
        # Who asks for fainter nuclei than the checkpoint does has them, be they alone.
        decoding = replace(decoding, interior=options.threshold, min_best=0.0)
    if options.min_area is not None:
        decoding = replace(decoding, min_area=options.min_area)
    return replace(decoding, min_score=max(options.min_score, decoding.min_score))


def _regions(
    label_map: npt.NDArray[np.int32],
    category_id: int,
    scores: npt.NDArray[np.float64] | None = None,
) -> list[Segment]:
    return [
        Segment(
            category_id=category_id,
            counts=region.counts,
            area=region.area,
            bbox_xywh=region.bbox_xywh,
            score=None if scores is None else float(scores[region.label - 1]),
        )
        for region in codec.regions(label_map)
    ]


def _mean(values: npt.NDArray[np.float32], where: npt.NDArray[np.bool_]) -> float | None:
    return round(float(values[where].mean(dtype=np.float64)), 4) if where.any() else None


def _enlarge(label_map: npt.NDArray[np.int32], height: int, width: int) -> npt.NDArray[np.int32]:
    """Nearest neighbour through indices: OpenCV resizes no 32-bit integers."""
    rows = (np.arange(height) * label_map.shape[0]) // height
    columns = (np.arange(width) * label_map.shape[1]) // width
    return label_map[rows[:, None], columns[None, :]]
