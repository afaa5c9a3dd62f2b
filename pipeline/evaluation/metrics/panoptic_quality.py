"""Panoptic quality by the rules of `panopticapi/evaluation.py` (cocodataset/panopticapi).

Kirillov et al., "Panoptic Segmentation", CVPR 2019: PQ = Σ IoU of the matched pairs /
(TP + FP/2 + FN/2) = SQ · RQ, by category, then the mean over the categories that occur.
A pair matches if the categories agree, the true segment is no crowd and IoU > 0.5, where pixels
that the ground truth leaves unlabelled do not count into the union. An unmatched crowd is no FN;
an unmatched prediction is no FP if more than half of it is unlabelled or in the crowd of its
category (of several crowds of one category in one image, the last one).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.sources.categories import Table

from .metric import Figures, WorstImages, ratio
from .overlay import Comparison


class PanopticQuality:
    """PQ, SQ and RQ over all categories, things and stuff.

    Args:
        categories: The common table; all segments are of its categories.
        unlabelled: Whether pixels without a true segment are unlabelled instead of empty.
    """

    def __init__(self, categories: Table, *, unlabelled: bool = True) -> None:
        self._categories, self._unlabelled = categories, unlabelled
        self._ids = np.array(sorted(categories), np.int64)
        self._tp, self._fp, self._fn = (np.zeros(len(self._ids), np.int64) for _ in range(3))
        self._iou = np.zeros(len(self._ids))
        self._worst = WorstImages("pq")

    def add(self, images: Comparison) -> None:
        """Matches the segments of some images."""
        truth, predicted = images.truth, images.predicted
        rows, columns, shared = images.truth_index, images.predicted_index, images.shared
        true_row, row = (np.searchsorted(self._ids, s.category_ids) for s in (truth, predicted))
        void = images.outside if self._unlabelled else np.zeros_like(images.outside)
        same = true_row[rows] == row[columns]
        union = images.truth_areas[rows] + images.predicted_areas[columns] - shared - void[columns]
        matched = np.flatnonzero(same & ~truth.iscrowd[rows] & (2 * shared > union))
        found = columns[matched]

        missed = ~truth.iscrowd
        missed[rows[matched]] = False
        crowds = np.flatnonzero(truth.iscrowd)[::-1]
        key = truth.image[crowds] * len(self._ids) + true_row[crowds]
        honoured = np.zeros(len(truth), np.bool_)
        honoured[crowds[np.unique(key, return_index=True)[1]]] = True  # the last of equal keys
        crowded = same & honoured[rows]
        ignored = void + np.bincount(
            columns[crowded], weights=shared[crowded], minlength=len(predicted)
        )
        spurious = 2 * ignored <= images.predicted_areas
        spurious[found] = False

        iou = shared[matched] / union[matched]
        size, k = len(self._ids), len(images.images)
        self._tp += np.bincount(row[found], minlength=size)
        self._fn += np.bincount(true_row[missed], minlength=size)
        self._fp += np.bincount(row[spurious], minlength=size)
        self._iou += np.bincount(row[found], weights=iou, minlength=size)
        tp = np.bincount(predicted.image[found], minlength=k)
        fp = np.bincount(predicted.image[spurious], minlength=k)
        fn = np.bincount(truth.image[missed], minlength=k)
        of_image = np.bincount(predicted.image[found], weights=iou, minlength=k)
        self._worst.add(
            [
                {
                    "file_name": image.name,
                    **{"tp": int(tp[i]), "fp": int(fp[i]), "fn": int(fn[i])},
                    "pq": ratio(of_image[i], tp[i] + 0.5 * fp[i] + 0.5 * fn[i]),
                }
                for i, image in enumerate(images.images)
            ]
        )

    def merge(self, other: PanopticQuality) -> None:
        """Adds what `other` has seen of the images that follow."""
        self._tp += other._tp
        self._fp += other._fp
        self._fn += other._fn
        self._iou += other._iou
        self._worst.merge(other._worst)

    def figures(self) -> Figures:
        """Means over the categories that occur on either side, and the worst images, in which all
        categories are pooled."""
        rows = {int(id_): self._category(k) for k, id_ in enumerate(self._ids)}
        isthing = {id_: self._categories[id_].isthing for id_ in rows}
        overall = {
            "all": _average(list(rows.values())),
            "things": _average([row for id_, row in rows.items() if isthing[id_]]),
            "stuff": _average([row for id_, row in rows.items() if not isthing[id_]]),
        }
        return Figures(overall, rows, self._worst.rows())

    def _category(self, k: int) -> dict[str, Any]:
        tp, fp, fn = int(self._tp[k]), int(self._fp[k]), int(self._fn[k])
        weight = tp + 0.5 * fp + 0.5 * fn
        occurs = weight > 0
        return {
            "pq": ratio(self._iou[k], weight),
            "sq": (ratio(self._iou[k], tp) or 0.0) if occurs else None,
            "rq": ratio(tp, weight),
            "tp": tp,
            "fp": fp,
            "fn": fn,
        }


def _average(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    occurring = [row for row in rows if row["pq"] is not None]
    n = len(occurring)
    means = {key: ratio(sum(row[key] for row in occurring), n) for key in ("pq", "sq", "rq")}
    return {**means, "categories": n}
