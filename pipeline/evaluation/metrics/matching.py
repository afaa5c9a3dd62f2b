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
from scipy import sparse

from pipeline.evaluation.sources.categories import Table
from pipeline.evaluation.sources.source import Floats, Ints

from .metric import Figures, WorstImages, mean, ratio
from .overlay import Comparison

# One-to-one assignment of true and predicted objects.


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
    free = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    chosen = [np.flatnonzero(free)]
    rivals = np.flatnonzero(~free)
    if len(rivals):
        _, i = np.unique(rows[rivals], return_inverse=True)
        _, j = np.unique(columns[rivals], return_inverse=True)
        size = int(i.max()) + 1, int(j.max()) + 1
        links = sparse.coo_array((np.ones(len(i)), (i, size[0] + j)), shape=(sum(size),) * 2)
        _, part = sparse.csgraph.connected_components(links, directed=False)
        order = np.argsort(part[i], kind="stable")
        cuts = np.flatnonzero(np.diff(part[i][order])) + 1
        chosen += [rivals[_best(group, i, j, iou[rivals])] for group in np.split(order, cuts)]
    return np.sort(np.concatenate(chosen))


def _best(group: Ints, i: Ints, j: Ints, iou: Floats) -> Ints:
    """Of the pairs that hang together through shared objects, the ones to choose."""
    _, row = np.unique(i[group], return_inverse=True)
    _, column = np.unique(j[group], return_inverse=True)
    from scipy.optimize import linear_sum_assignment  # half a second, which every run would wait

    gain = np.zeros((row.max() + 1, column.max() + 1))
    pair = np.full(gain.shape, -1)
    # One more pair outweighs every sum of IoU.
    gain[row, column] = 1 + iou[group] / (2 * min(gain.shape))
    pair[row, column] = group
    found = pair[linear_sum_assignment(gain, maximize=True)]
    return found[found >= 0]


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
        self._measured, self._sums = 0, np.zeros(2)
        self._worst = WorstImages("accuracy_50")

    def add(self, images: Comparison) -> None:
        """Matches the objects of some images at every threshold."""
        truth, predicted = images.truth, images.predicted
        true_row, is_object = self._rows(truth.category_ids)
        row, is_thing = self._rows(predicted.category_ids)
        rows, columns = images.truth_index, images.predicted_index
        same = is_object[rows] & is_thing[columns] & (true_row[rows] == row[columns])
        crowded = truth.iscrowd[rows]
        ignored = np.bincount(
            columns[same & crowded], weights=images.shared[same & crowded], minlength=len(predicted)
        )
        if self._unlabelled:
            ignored += images.outside
        is_object &= ~truth.iscrowd
        kept = is_thing & (2 * ignored <= images.predicted_areas)
        pairs = np.flatnonzero(same & ~crowded)
        iou = images.iou()[pairs]
        size, k = len(self._things), len(images.images)
        present = np.bincount(true_row[is_object], minlength=size)
        present_in = np.bincount(truth.image[is_object], minlength=k)
        by_image = np.zeros((3, k, len(THRESHOLDS)), np.int64)
        for step, threshold in enumerate(THRESHOLDS):
            near = pairs[iou >= threshold]
            chosen = near[assign(rows[near], columns[near], iou[iou >= threshold])]
            found = columns[chosen]
            alone = kept.copy()
            alone[found] = False
            tp = np.bincount(row[found], minlength=size)
            self._counts[:, :, step] += tp, np.bincount(row[alone], minlength=size), present - tp
            tp = np.bincount(predicted.image[found], minlength=k)
            fp = np.bincount(predicted.image[alone], minlength=k)
            by_image[:, :, step] = tp, fp, present_in - tp
            self._iou[:, step] += np.bincount(
                row[found], weights=images.iou()[chosen], minlength=size
            )
        self._note(images, by_image)

    def merge(self, other: MatchingAccuracy) -> None:
        """Adds what `other` has seen of the images that follow."""
        self._counts += other._counts
        self._iou += other._iou
        self._measured += other._measured
        self._sums += other._sums
        self._worst.merge(other._worst)

    def figures(self) -> Figures:
        """Pooled over categories, by category, and the worst images at 0.5."""
        overall = _figures(self._counts.sum(1), self._iou.sum(0))
        overall["by_image"] = {
            "accuracy_50": ratio(self._sums[0], self._measured),
            "accuracy_50_95": ratio(self._sums[1], self._measured),
            "images": self._measured,
        }
        per_category = {
            int(id_): _figures(self._counts[:, k], self._iou[k])
            for k, id_ in enumerate(self._things)
        }
        return Figures(overall, per_category, self._worst.rows())

    def _note(self, images: Comparison, counts: Ints) -> None:
        """Sums what is averaged by image, and lists images.

        Args:
            images: k images.
            counts: 3×k×thresholds: TP, FP, FN.
        """
        tp, total = counts[0], counts.sum(0)
        accuracy = tp / np.maximum(total, 1)
        # Where there is no object at one threshold, there is none at any.
        measured = total[:, 0] > 0
        self._measured += int(measured.sum())
        self._sums += accuracy[measured, 0].sum(), accuracy[measured].mean(1).sum()
        self._worst.add(
            [
                {
                    "file_name": images.images[i].name,
                    **dict(zip(("tp", "fp", "fn"), counts[:, i, 0].tolist(), strict=True)),
                    "accuracy_50": float(accuracy[i, 0]),
                    "accuracy_50_95": float(accuracy[i].mean()),
                }
                for i in np.flatnonzero(measured).tolist()
            ]
        )

    def _rows(self, category_ids: Ints) -> tuple[Ints, np.ndarray]:
        """Index into the things, and whether it is one."""
        row = np.searchsorted(self._things, category_ids)
        row[row == len(self._things)] = 0
        if not len(self._things):
            return row, np.zeros(len(row), np.bool_)
        return row, self._things[row] == category_ids


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
