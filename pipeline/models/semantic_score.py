"""Figures of a semantic network while it is trained; `jobs.evaluate` has them in full."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.categories import Categories

Counts = npt.NDArray[np.int64]


def figures(counts: Counts, categories: Categories) -> dict[str, float]:
    """Figures from the pixels of each true (row) and found (column) category.

    iou = TP / (TP + FP + FN), pooled over all pictures. "mean_iou" is over the categories that
    occur on either side, "mean_accuracy" over those that are true somewhere, "foreground_iou" over
    those that occur and are not background. Rounded to 6 digits.

    Args:
        counts: CxC.
        categories: In the order of the rows.
    """
    right, true, found = counts.diagonal(), counts.sum(1), counts.sum(0)
    union = true + found - right
    iou = np.where(union > 0, right / np.maximum(union, 1), np.nan)
    recall = np.where(true > 0, right / np.maximum(true, 1), np.nan)
    front = np.array([not item.is_background for item in categories])
    values = {
        "mean_iou": _mean(iou),
        "pixel_accuracy": right.sum() / max(counts.sum(), 1),
        "mean_accuracy": _mean(recall),
        "foreground_iou": _mean(iou[front]),
    }
    names = [item.name for item in categories]
    values |= {f"iou:{name}": value for name, value in zip(names, iou, strict=True)}
    return {key: round(float(value), 6) for key, value in values.items() if not np.isnan(value)}


def _mean(values: npt.NDArray[np.float64]) -> float:
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else 0.0
