"""Semantic figures over the labelled pixels of the ground truth: IoU by category, accuracy.

With TP, FP and FN in pixels, pooled over all images, of a category:

- iou = TP / (TP + FP + FN) (PASCAL VOC; Long et al., "Fully Convolutional Networks", CVPR 2015),
- recall = TP / (TP + FN), the category's pixel accuracy, and precision = TP / (TP + FP).

Unlabelled pixels of the ground truth count nowhere; labelled pixels without a prediction are wrong
ones. A category that the ground truth lacks has no recall; if it is predicted nonetheless, its IoU
is 0. So there are two means: over the categories that the ground truth has, and over those that
occur on either side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.evaluation.sources.categories import Table
from pipeline.evaluation.sources.source import Ints

from .metric import Figures, WorstImages, mean, ratio
from .overlay import Comparison

_MOST_CONFUSED = 50
_NOTHING = "nothing"
"""What is predicted for a pixel without a prediction."""


class SemanticIou:
    """Mean IoU, pixel accuracy and the confusion of categories.

    Args:
        categories: The common table; ids outside of it are taken as they come.
    """

    def __init__(self, categories: Table) -> None:
        self._categories = categories
        self._pixels: Counter[tuple[int, int | None]] = Counter()
        self._worst = WorstImages("mean_iou_present")

    def add(self, images: Comparison) -> None:
        """Counts the pixels of some images by true and predicted category."""
        truth, predicted = images.truth, images.predicted
        ids, row = np.unique(
            np.concatenate((truth.category_ids, predicted.category_ids)), return_inverse=True
        )
        size = len(ids) + 1  # the last stands for no prediction
        true_row, columns = row[: len(truth)], row[len(truth) :]
        covered = np.bincount(images.truth_index, weights=images.shared, minlength=len(truth))
        image = np.append(truth.image[images.truth_index], truth.image)
        left = np.append(true_row[images.truth_index], true_row)
        right = np.append(columns[images.predicted_index], np.full(len(truth), size - 1))
        pixels = np.append(images.shared, images.truth_areas - covered.astype(np.int64))
        joint, place = np.unique((image * size + left) * size + right, return_inverse=True)
        counts = np.bincount(place, weights=pixels).astype(np.int64)
        image, left, right = joint // size**2, joint // size % size, joint % size
        names = [*ids.tolist(), None]
        for a, b, number in zip(left.tolist(), right.tolist(), counts.tolist(), strict=True):
            if number:
                self._pixels[names[a], names[b]] += number
        self._note(images, image, left, right, counts)

    def merge(self, other: SemanticIou) -> None:
        """Adds what `other` has seen of the images that follow."""
        self._pixels.update(other._pixels)
        self._worst.merge(other._worst)

    def figures(self) -> Figures:
        """Overall, by category, the worst images, and which categories are taken for which.

        `mean_iou` is over every category with a true or predicted labelled pixel,
        `mean_iou_present` over those that the ground truth has, as are `mean_accuracy` and
        `frequency_weighted_iou`, in which a category weighs by its true pixels.
        """
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
                "recall": ratio(right, true[id_]),
                "precision": ratio(right, predicted[id_]),
                "true_pixels": true[id_],
                "predicted_pixels": predicted[id_],
            }
        present = [row for row in rows.values() if row["true_pixels"]]
        total = sum(true.values())
        weighted = sum(row["iou"] * row["true_pixels"] for row in present)
        overall = {
            "pixel_accuracy": ratio(sum(self._pixels[i, i] for i in rows), total),
            "mean_accuracy": mean([row["recall"] for row in present]),
            "mean_iou_present": mean([row["iou"] for row in present]),
            "mean_iou": mean([row["iou"] for row in rows.values()]),
            "frequency_weighted_iou": ratio(weighted, total),
            "pixels": total,
            "categories_present": len(present),
            "categories": sum(row["iou"] is not None for row in rows.values()),
        }
        return Figures(overall, rows, self._worst.rows(), {"confusion": self._confusion(true)})

    def _confusion(self, true: Mapping[int, int]) -> dict[str, Any]:
        """All counts of pixels by id, true then predicted, and the most frequent mistakes."""
        cells = [(true_id, id_, number) for (true_id, id_), number in self._pixels.items()]
        cells.sort(key=lambda cell: (cell[0], cell[1] is None, cell[1] or 0))
        matrix: dict[str, dict[str, int]] = {}
        for true_id, id_, number in cells:
            if number:
                matrix.setdefault(str(true_id), {})[_NOTHING if id_ is None else str(id_)] = number
        wrong = [cell for cell in cells if cell[0] != cell[1]]
        wrong.sort(key=lambda cell: -cell[2])
        return {
            "top": [
                {
                    "true": self._name(true_id),
                    "predicted": self._name(id_),
                    "pixels": number,
                    "share_of_true": number / true[true_id],
                }
                for true_id, id_, number in wrong[:_MOST_CONFUSED]
            ],
            "pixels": matrix,
        }

    def _name(self, id_: int | None) -> str:
        if id_ is None:
            return _NOTHING
        return self._categories[id_].name if id_ in self._categories else str(id_)

    def _note(self, images: Comparison, image: Ints, left: Ints, right: Ints, counts: Ints) -> None:
        """Lists images.

        Args:
            images: k images.
            image: Cells of the confusion matrices: which image's,
            left: index of the true category,
            right: of the predicted one,
            counts: and how many pixels.
        """
        k, size = len(images.images), int(max(left.max(initial=0), right.max(initial=0))) + 1
        same = left == right
        total = np.bincount(image, weights=counts, minlength=k)
        correct = np.bincount(image[same], weights=counts[same], minlength=k)
        true, answers, both = (
            np.bincount((image * size + side)[which], weights=counts[which], minlength=k * size)
            for side, which in ((left, slice(None)), (right, slice(None)), (left, same))
        )
        present = true.reshape(k, size) > 0
        iou = both / np.maximum(true + answers - both, 1)
        mean_iou = iou.reshape(k, size).sum(1) / np.maximum(present.sum(1), 1)
        self._worst.add(
            [
                {
                    "file_name": images.images[i].name,
                    "mean_iou_present": float(mean_iou[i]),
                    "pixel_accuracy": float(correct[i] / total[i]),
                }
                for i in np.flatnonzero(total).tolist()
            ]
        )
