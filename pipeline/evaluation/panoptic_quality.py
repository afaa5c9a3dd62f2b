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

from .categories import Table
from .comparison import Comparison
from .metric import Figures, ratio
from .segments import Ints


class PanopticQuality:
    """PQ, SQ and RQ over all categories, things and stuff.

    Args:
        categories: The common table.
    """

    def __init__(self, categories: Table) -> None:
        self._categories = categories
        self._ids = np.array(sorted(categories), np.int64)
        self._tp, self._fp, self._fn = (np.zeros(len(self._ids), np.int64) for _ in range(3))
        self._iou = np.zeros(len(self._ids))

    def add(self, image: Comparison) -> None:
        """Matches the segments of one image."""
        truth, predicted = image.truth, image.predicted
        rows, columns, shared = image.truth_index, image.predicted_index, image.shared
        true_ids, ids = truth.category_ids, predicted.category_ids
        same = true_ids[rows] == ids[columns]
        union = (
            image.truth_areas[rows]
            + image.predicted_areas[columns]
            - shared
            - image.outside[columns]
        )
        matched = np.flatnonzero(same & ~truth.iscrowd[rows] & (2 * shared > union))

        missed = ~truth.iscrowd
        missed[rows[matched]] = False
        last_crowd = {int(true_ids[i]): int(i) for i in np.flatnonzero(truth.iscrowd)}
        honoured = np.zeros(len(truth), np.bool_)
        honoured[list(last_crowd.values())] = True
        crowded = same & honoured[rows]
        ignored = image.outside + np.bincount(
            columns[crowded], weights=shared[crowded], minlength=len(predicted)
        )
        spurious = 2 * ignored <= image.predicted_areas
        spurious[columns[matched]] = False

        self._tp += self._count(ids[columns[matched]])
        self._fn += self._count(true_ids[missed])
        self._fp += self._count(ids[spurious])
        np.add.at(
            self._iou,
            np.searchsorted(self._ids, ids[columns[matched]]),
            shared[matched] / union[matched],
        )

    def figures(self) -> Figures:
        """Means over the categories that occur on either side."""
        rows = {int(id_): self._category(k) for k, id_ in enumerate(self._ids)}
        isthing = {id_: self._categories[id_].isthing for id_ in rows}
        overall = {
            "all": _average(list(rows.values())),
            "things": _average([row for id_, row in rows.items() if isthing[id_]]),
            "stuff": _average([row for id_, row in rows.items() if not isthing[id_]]),
        }
        return Figures(overall, rows)

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

    def _count(self, category_ids: Ints) -> Ints:
        return np.bincount(np.searchsorted(self._ids, category_ids), minlength=len(self._ids))


def _average(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    occurring = [row for row in rows if row["pq"] is not None]
    n = len(occurring)
    means = {key: ratio(sum(row[key] for row in occurring), n) for key in ("pq", "sq", "rq")}
    return {**means, "categories": n}
