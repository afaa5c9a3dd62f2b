"""COCOeval with a faster, equal matching of one image.

`COCOeval.evaluateImg` compares every prediction with every true object in Python, at ten IoU
thresholds and in four ranges of size. Almost all of those pairs do not overlap; here each
prediction only looks at the objects it overlaps enough for the lowest threshold, in the same order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval


class SparseCocoEval(COCOeval):
    """A drop-in COCOeval for masks or boxes with categories (`useCats` = 1)."""

    # The names and the order of arguments are pycocotools'.
    def evaluateImg(self, imgId: Any, catId: Any, aRng: Any, maxDet: int) -> Any:  # noqa: N802, N803
        """What COCOeval.evaluateImg returns: matches by threshold, None for nothing on both sides.

        Args:
            imgId: Image.
            catId: Category.
            aRng: Smallest and largest area; true objects outside are ignored.
            maxDet: The most predictions that count, by score.
        """
        key = imgId, catId
        true, answers = _annotations(self, key)
        if not true and not answers:
            return None
        ignore = np.array([bool(g["ignore"]) or not aRng[0] <= g["area"] <= aRng[1] for g in true])
        order = np.argsort(ignore, kind="mergesort")  # ignored ones last
        true, ignore = [true[i] for i in order], ignore[order].tolist()
        best = np.argsort([-d["score"] for d in answers], kind="mergesort")[:maxDet]
        answers = [answers[i] for i in best]
        crowd = [bool(g["iscrowd"]) for g in true]
        thresholds = [min(float(t), 1 - 1e-10) for t in self.params.iouThrs]
        shape = len(thresholds), len(true), len(answers)
        true_match, match = np.zeros((shape[0], shape[1])), np.zeros((shape[0], shape[2]))
        ignored = np.zeros((shape[0], shape[2]), np.bool_)
        near = self._near(key, order, len(answers), min(thresholds))
        for step, threshold in enumerate(thresholds):
            taken = [False] * len(true)
            for d, candidates in enumerate(near):
                chosen, highest = -1, threshold
                for g, iou in candidates:
                    if taken[g] and not crowd[g]:
                        continue
                    if chosen >= 0 and ignore[g] and not ignore[chosen]:
                        break
                    if iou >= highest:
                        chosen, highest = g, iou
                if chosen >= 0:
                    taken[chosen] = True
                    ignored[step, d] = ignore[chosen]
                    match[step, d] = true[chosen]["id"]
                    true_match[step, chosen] = answers[d]["id"]
        outside = np.array([not aRng[0] <= d["area"] <= aRng[1] for d in answers], np.bool_)
        return {
            "image_id": imgId,
            "category_id": catId,
            "aRng": aRng,
            "maxDet": maxDet,
            "dtIds": [d["id"] for d in answers],
            "gtIds": [g["id"] for g in true],
            "dtMatches": match,
            "gtMatches": true_match,
            "dtScores": [d["score"] for d in answers],
            "gtIgnore": np.array(ignore, np.int64),
            "dtIgnore": ignored | ((match == 0) & outside),
        }

    def _near(
        self, key: tuple[Any, Any], order: Any, number: int, lowest: float
    ) -> list[list[tuple[int, float]]]:
        """For each prediction, (index, IoU) of the true objects with IoU ≥ `lowest`, in `order`."""
        if not len(order) or not number:
            return [[]] * number
        ious = np.asarray(self.ious[key])[:, order]
        near: list[list[tuple[int, float]]] = [[] for _ in range(number)]
        for d, g in np.argwhere(ious >= lowest).tolist():
            near[d].append((g, float(ious[d, g])))
        return near


def _annotations(evaluation: Any, key: tuple[Any, Any]) -> tuple[list[Any], list[Any]]:
    # Attributes that the stubs of pycocotools leave out.
    return evaluation._gts[key], evaluation._dts[key]
