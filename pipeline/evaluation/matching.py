"""Matching accuracy of objects: TP / (TP + FP + FN) at IoU thresholds 0.5, 0.55 … 0.95.

At a threshold t, true and predicted objects of the same category are assigned one to one so that
as many pairs as possible have IoU ≥ t, and among those assignments the sum of IoU is largest:
the matching of `stardist.matching` (Schmidt et al., "Cell Detection with Star-convex Polygons",
MICCAI 2018; called average precision there and in the Data Science Bowl 2018). TP are the pairs,
FN the true objects and FP the predicted ones that are left over.

Added to that: a predicted object that finds no partner and lies by more than half in a crowd of
its category, or in pixels that a panoptic ground truth leaves unlabelled, is not counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from .categories import Table
from .comparison import Comparison
from .metric import Figures, mean, ratio
from .segments import Floats, Ints

THRESHOLDS: Floats = np.arange(10, 20) / 20
"""0.5 … 0.95; as quotients they compare exactly with IoU, a quotient of pixel counts."""


class MatchingAccuracy:
    """Accuracy, precision, recall and F1, pooled over images and as the mean by image.

    Args:
        categories: The common table; its things are the objects.
        unlabelled: Whether pixels without a true segment are unlabelled instead of empty.
    """

    def __init__(self, categories: Table, *, unlabelled: bool = False) -> None:
        self._things = np.array(sorted(i for i, item in categories.items() if item.isthing))
        self._unlabelled = unlabelled
        shape = (len(self._things), len(THRESHOLDS))
        self._counts = np.zeros((3, *shape), np.int64)  # TP, FP, FN
        self._iou = np.zeros(shape)
        self._images: list[tuple[str, Ints]] = []

    def add(self, image: Comparison) -> None:
        """Matches the objects of one image at every threshold."""
        truth, predicted = image.truth, image.predicted
        true_row, is_object = self._rows(truth.category_ids)
        row, is_thing = self._rows(predicted.category_ids)
        rows, columns = image.truth_index, image.predicted_index
        same = is_object[rows] & is_thing[columns] & (true_row[rows] == row[columns])
        crowded = truth.iscrowd[rows]
        ignored = np.bincount(
            columns[same & crowded], weights=image.shared[same & crowded], minlength=len(predicted)
        )
        if self._unlabelled:
            ignored += image.outside
        is_object &= ~truth.iscrowd
        pairs = np.flatnonzero(same & ~crowded)
        iou = image.iou()[pairs]
        size = len(self._things)
        present = np.bincount(true_row[is_object], minlength=size)
        counts = np.zeros((3, size, len(THRESHOLDS)), np.int64)
        for step, threshold in enumerate(THRESHOLDS):
            enough = iou >= threshold
            chosen = pairs[enough][assign(rows[pairs[enough]], columns[pairs[enough]], iou[enough])]
            alone = is_thing & (2 * ignored <= image.predicted_areas)
            alone[columns[chosen]] = False
            tp = np.bincount(row[columns[chosen]], minlength=size)
            counts[:, :, step] = tp, np.bincount(row[alone], minlength=size), present - tp
            self._iou[:, step] += np.bincount(
                row[columns[chosen]], weights=image.iou()[chosen], minlength=size
            )
        self._counts += counts
        self._images.append((image.name, counts.sum(1)))

    def figures(self) -> Figures:
        """Pooled over categories, by category, and per image at 0.5."""
        images = [_row(name, counts) for name, counts in self._images]
        overall = _figures(self._counts.sum(1), self._iou.sum(0))
        at_50 = [row["accuracy_50"] for row in images]
        at_all = [row["accuracy_50_95"] for row in images]
        overall["by_image"] = {
            "accuracy_50": mean(at_50),
            "accuracy_50_95": mean(at_all),
            "images": sum(value is not None for value in at_50),
        }
        per_category = {
            int(id_): _figures(self._counts[:, k], self._iou[k])
            for k, id_ in enumerate(self._things)
        }
        return Figures(overall, per_category, images)

    def _rows(self, category_ids: Ints) -> tuple[Ints, np.ndarray]:
        """Index into the things, and whether it is one."""
        row = np.searchsorted(self._things, category_ids)
        row[row == len(self._things)] = 0
        if not len(self._things):
            return row, np.zeros(len(row), np.bool_)
        return row, self._things[row] == category_ids


def assign(rows: Ints, columns: Ints, iou: Floats) -> Ints:
    """The one-to-one choice among candidate pairs: as many as possible, then largest sum of IoU.

    Args:
        rows: p indices of true objects.
        columns: p indices of predicted objects.
        iou: p values in 0…1.

    Returns:
        Indices of the chosen pairs, ascending.
    """
    if not len(rows):
        return np.zeros(0, np.int64)
    _, row, row_degree = np.unique(rows, return_inverse=True, return_counts=True)
    _, column, column_degree = np.unique(columns, return_inverse=True, return_counts=True)
    free = (row_degree[row] == 1) & (column_degree[column] == 1)
    rivals = np.flatnonzero(~free)
    if not len(rivals):
        return np.arange(len(rows))
    _, i = np.unique(row[rivals], return_inverse=True)
    _, j = np.unique(column[rivals], return_inverse=True)
    gain = np.zeros((i.max() + 1, j.max() + 1))
    pair = np.full(gain.shape, -1)
    # One more pair outweighs every sum of IoU.
    gain[i, j] = 1 + iou[rivals] / (2 * min(gain.shape))
    pair[i, j] = rivals
    chosen = pair[linear_sum_assignment(gain, maximize=True)]
    return np.sort(np.concatenate((np.flatnonzero(free), chosen[chosen >= 0])))


def _figures(counts: Ints, iou: Floats) -> dict[str, Any]:
    tp, fp, fn = counts
    steps = [
        {
            "iou": float(threshold),
            "tp": int(tp[k]),
            "fp": int(fp[k]),
            "fn": int(fn[k]),
            "accuracy": ratio(tp[k], tp[k] + fp[k] + fn[k]),
            "precision": ratio(tp[k], tp[k] + fp[k]),
            "recall": ratio(tp[k], tp[k] + fn[k]),
            "f1": ratio(2 * tp[k], 2 * tp[k] + fp[k] + fn[k]),
            "mean_matched_iou": ratio(iou[k], tp[k]),
        }
        for k, threshold in enumerate(THRESHOLDS)
    ]
    return {
        "accuracy_50": steps[0]["accuracy"],
        "accuracy_75": steps[5]["accuracy"],
        "accuracy_50_95": mean([step["accuracy"] for step in steps]),
        "thresholds": steps,
    }


def _row(name: str, counts: Ints) -> dict[str, Any]:
    tp, fp, fn = counts
    accuracies = [ratio(a, b) for a, b in zip(tp, counts.sum(0), strict=True)]
    return {
        "file_name": name,
        "tp": int(tp[0]),
        "fp": int(fp[0]),
        "fn": int(fn[0]),
        "accuracy_50": accuracies[0],
        "accuracy_50_95": mean(accuracies),
    }
