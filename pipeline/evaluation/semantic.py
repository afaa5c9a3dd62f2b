"""Semantic figures over the labelled pixels of the ground truth: IoU by category, accuracy.

IoU of a category = TP / (TP + FP + FN) in pixels, pooled over all images (PASCAL VOC; Long et
al., "Fully Convolutional Networks", CVPR 2015). Unlabelled pixels of the ground truth count
nowhere; labelled pixels without a prediction are wrong ones.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from .categories import Table
from .comparison import Comparison
from .metric import Figures, mean, ratio

_NOTHING = None
"""Predicted "category" of a labelled pixel that no prediction covers."""


class SemanticIou:
    """Mean IoU and pixel accuracy.

    Args:
        categories: The common table; ids outside of it are taken as they come.
    """

    def __init__(self, categories: Table) -> None:
        self._categories = categories
        self._pixels: Counter[tuple[int, int | None]] = Counter()

    def add(self, image: Comparison) -> None:
        """Counts the pixels of one image by true and predicted category."""
        true_ids = image.truth.category_ids
        ids = image.predicted.category_ids
        pairs = zip(
            true_ids[image.truth_index].tolist(),
            ids[image.predicted_index].tolist(),
            image.shared.tolist(),
            strict=True,
        )
        for true_id, id_, pixels in pairs:
            self._pixels[true_id, id_] += pixels
        covered = np.bincount(image.truth_index, weights=image.shared, minlength=len(true_ids))
        for true_id, pixels in zip(
            true_ids.tolist(), (image.truth_areas - covered).tolist(), strict=True
        ):
            if pixels:
                self._pixels[true_id, _NOTHING] += int(pixels)

    def figures(self) -> Figures:
        """`mean_iou` is over every category with a true or predicted labelled pixel,
        `mean_iou_present` over those that the ground truth has."""
        true: Counter[int] = Counter()
        predicted: Counter[int] = Counter()
        for (true_id, id_), pixels in self._pixels.items():
            true[true_id] += pixels
            if id_ is not None:
                predicted[id_] += pixels
        rows = {}
        for id_ in sorted({*self._categories, *true, *predicted}):
            right = self._pixels[id_, id_]
            rows[id_] = {
                "iou": ratio(right, true[id_] + predicted[id_] - right),
                "accuracy": ratio(right, true[id_]),
                "true_pixels": true[id_],
                "predicted_pixels": predicted[id_],
            }
        present = [row for row in rows.values() if row["true_pixels"]]
        overall = {
            "mean_iou": mean([row["iou"] for row in rows.values()]),
            "mean_iou_present": mean([row["iou"] for row in present]),
            "pixel_accuracy": ratio(sum(self._pixels[i, i] for i in rows), sum(true.values())),
            "mean_accuracy": mean([row["accuracy"] for row in present]),
            "pixels": sum(true.values()),
            "categories": sum(row["iou"] is not None for row in rows.values()),
            "categories_present": len(present),
        }
        return Figures(overall, rows)
