"""COCO's average precision of masks, computed by pycocotools' COCOeval.

Precision and recall come out of `COCOeval.accumulate`; the twelve figures are read from them as
`COCOeval.summarize` does, which knows no other `maxDets` than 1, 10, 100. Here a fourth one of
1000 is measured in the same pass, since pictures of cells hold more than 100 objects. COCOeval
goes through the predictions of an image by falling score, so the first 100 of 1000 are matched
as if they were alone.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO

from .categories import Table
from .coco_eval import SparseCocoEval
from .comparison import Comparison
from .metric import Figures

MAX_DETS = (1, 10, 100, 1000)


class CocoAp:
    """AP and AR over IoU 0.5 … 0.95 with at most 100, and at most 1000, predictions an image.

    Args:
        categories: The common table; its things are the objects.
    """

    def __init__(self, categories: Table) -> None:
        self._things = sorted(id_ for id_, item in categories.items() if item.isthing)
        self._images: list[dict[str, Any]] = []
        self._truth: list[dict[str, Any]] = []
        self._predicted: list[dict[str, Any]] = []

    def add(self, image: Comparison) -> None:
        """Keeps the objects of one image; a prediction without a score gets 1."""
        truth, predicted = image.truth, image.predicted
        size = [truth.height, truth.width]
        self._images.append({"id": image.image_id, "height": size[0], "width": size[1]})
        stated = np.where(np.isnan(truth.coco_areas), image.truth_areas, truth.coco_areas)
        for index in np.flatnonzero(np.isin(truth.category_ids, self._things)).tolist():
            self._truth.append(
                {
                    "id": len(self._truth) + 1,  # 0 would read as "no match"
                    "image_id": image.image_id,
                    "category_id": int(truth.category_ids[index]),
                    "segmentation": {"size": size, "counts": truth.counts[index]},
                    "area": float(stated[index]),
                    "iscrowd": int(truth.iscrowd[index]),
                }
            )
        scores = np.where(np.isnan(predicted.scores), 1.0, predicted.scores)
        for index in np.flatnonzero(np.isin(predicted.category_ids, self._things)).tolist():
            self._predicted.append(
                {
                    "id": len(self._predicted) + 1,
                    "image_id": image.image_id,
                    "category_id": int(predicted.category_ids[index]),
                    "segmentation": {"size": size, "counts": predicted.counts[index]},
                    "area": int(image.predicted_areas[index]),
                    "score": float(scores[index]),
                }
            )

    def figures(self) -> Figures:
        """The twelve figures for both limits, and by category AP, AR and their sizes."""
        categories = [{"id": id_, "name": str(id_)} for id_ in self._things]
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
            evaluation = SparseCocoEval(
                _coco(self._images, categories, self._truth),
                _coco(self._images, categories, self._predicted),
                "segm",
            )
            evaluation.params.maxDets = list(MAX_DETS)
            evaluation.evaluate()
            evaluation.accumulate()
        precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
        return Figures(
            _limits(precision, recall),
            {
                id_: _limits(precision[:, :, k : k + 1], recall[:, k : k + 1])
                for k, id_ in enumerate(self._things)
            },
        )


def _coco(
    images: list[dict[str, Any]],
    categories: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
) -> COCO:
    coco: Any = COCO()  # its stubs want their own dictionaries
    coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
    coco.createIndex()
    return coco


def _limits(precision: npt.NDArray[Any], recall: npt.NDArray[Any]) -> dict[str, Any]:
    return {
        f"max_dets_{limit}": _twelve(precision, recall, MAX_DETS.index(limit))
        for limit in MAX_DETS[2:]
    }


def _twelve(
    precision: npt.NDArray[Any], recall: npt.NDArray[Any], most: int
) -> dict[str, float | None]:
    """The figures in the order of `COCOeval.summarize`.

    Args:
        precision: IoU × recall × category × size × limit; −1 where there is nothing to find.
        recall: IoU × category × size × limit.
        most: Index of the limit.
    """
    everything, small, medium, large = range(4)
    return {
        "AP": _known_mean(precision[:, :, :, everything, most]),
        "AP50": _known_mean(precision[0, :, :, everything, most]),
        "AP75": _known_mean(precision[5, :, :, everything, most]),
        "AP_small": _known_mean(precision[:, :, :, small, most]),
        "AP_medium": _known_mean(precision[:, :, :, medium, most]),
        "AP_large": _known_mean(precision[:, :, :, large, most]),
        "AR_1": _known_mean(recall[:, :, everything, 0]),
        "AR_10": _known_mean(recall[:, :, everything, 1]),
        "AR_max": _known_mean(recall[:, :, everything, most]),
        "AR_small": _known_mean(recall[:, :, small, most]),
        "AR_medium": _known_mean(recall[:, :, medium, most]),
        "AR_large": _known_mean(recall[:, :, large, most]),
    }


def _known_mean(values: npt.NDArray[Any]) -> float | None:
    known = values[values > -1]
    return float(np.mean(known)) if len(known) else None
