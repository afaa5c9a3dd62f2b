"""Matching accuracy of nuclei: TP / (TP + FP + FN), pooled over pictures."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.models.nuclei.decode import Decoding, decode_nuclei
from pipeline.models.nuclei.net import UNet
from pipeline.models.nuclei.predict import predict_maps

from .data import TrainingImage

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""0.5, 0.55 … 0.95."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Counts at each of `IOU_THRESHOLDS`; adding two pools their pictures.

    Attributes:
        hits: True positives at each threshold.
        found: Predicted nuclei.
        true: Nuclei that are there.
    """

    hits: tuple[int, ...]
    found: int
    true: int

    def __add__(self, other: Matches) -> Matches:
        hits = tuple(a + b for a, b in zip(self.hits, other.hits, strict=True))
        return Matches(hits, self.found + other.found, self.true + other.true)

    def accuracy(self) -> tuple[float, ...]:
        """TP / (TP + FP + FN) at each threshold; 1 where there is nothing and nothing found."""
        total = self.found + self.true
        return tuple(hit / (total - hit) if total else 1.0 for hit in self.hits)


NO_MATCHES = Matches((0,) * len(IOU_THRESHOLDS), 0, 0)


def match(found: npt.NDArray[np.integer], true: npt.NDArray[np.integer]) -> Matches:
    """Compares two label maps (HxW, 0 = none) of one picture.

    At IoU ≥ 0.5 a nucleus has one partner at most (two only in the tie of exactly 0.5, which is
    counted once), so no assignment problem has to be solved.
    """
    rows, columns = int(found.max()) + 1, int(true.max()) + 1
    pairs = found.reshape(-1).astype(np.int64) * columns + true.reshape(-1)
    common = np.bincount(pairs, minlength=rows * columns).reshape(rows, columns)
    union = common.sum(1, keepdims=True) + common.sum(0, keepdims=True) - common
    iou = (common / np.maximum(union, 1))[1:, 1:]
    hits = []
    for threshold in IOU_THRESHOLDS:
        good = iou >= threshold
        hits.append(int(min(good.any(0).sum(), good.any(1).sum())) if good.size else 0)
    present = (
        int(np.count_nonzero(common[1:].any(1))),
        int(np.count_nonzero(common[:, 1:].any(0))),
    )
    return Matches(tuple(hits), *present)


# Validation: whole pictures through the net and the decoder, matched with the truth.

Floats = npt.NDArray[np.float32]


def picture_maps(net: UNet, pictures: Sequence[TrainingImage], device: str) -> list[Floats]:
    """3xHxW float32 maps of each picture: interior, touch, distance, all in 0…1."""
    fused = net.fused(device)
    return [predict_maps(fused, picture.levels[0], device) for picture in pictures]


def score_maps(
    maps: Sequence[Floats], pictures: Sequence[TrainingImage], decoding: Decoding
) -> dict[str, Matches]:
    """Pooled matches: kind → counts, and "all"."""

    def one(index: int) -> Matches:
        found, _ = decode_nuclei(maps[index], decoding)
        return match(found, pictures[index].label_map)

    pooled: dict[str, Matches] = {"all": NO_MATCHES}
    with ThreadPoolExecutor() as pool:
        results = pool.map(one, range(len(pictures)))
        for picture, matches in zip(pictures, results, strict=True):
            pooled["all"] += matches
            pooled[picture.kind] = pooled.get(picture.kind, NO_MATCHES) + matches
    return pooled


# Choice of the decoder's thresholds on the validation split.

_CHOICES: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("seed", (0.4, 0.6, 0.7)),
    ("touch", (0.5, 0.8)),
    ("interior", (0.4, 0.45, 0.55, 0.6)),
    ("min_area", (16, 32, 40)),
    ("min_score", (0.0, 0.7, 0.8, 0.85)),
)


def tune(maps: Sequence[npt.NDArray[np.float32]], pictures: Sequence[TrainingImage]) -> Decoding:
    """One threshold at a time, in turn: the value with the best accuracy; ties keep the default.

    Args:
        maps: 3xHxW of each picture, from `picture_maps`.
        pictures: With the truth. Never the test split.
    """
    best = Decoding()
    top = _value(maps, pictures, best)
    for field, values in _CHOICES:
        for value in values:
            change: dict[str, Any] = {field: value}
            trial = replace(best, **change)
            reached = _value(maps, pictures, trial)
            if reached > top + 1e-6:
                best, top = trial, reached
    return best


def _value(
    maps: Sequence[npt.NDArray[np.float32]], pictures: Sequence[TrainingImage], decoding: Decoding
) -> float:
    """Accuracy at IoU 0.5 plus the mean over 0.5…0.95, over all pictures together."""
    accuracy = score_maps(maps, pictures, decoding)["all"].accuracy()
    return accuracy[0] + sum(accuracy) / len(accuracy)
