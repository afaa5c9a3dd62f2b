"""Matching accuracy of nuclei: TP / (TP + FP + FN), pooled over pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
