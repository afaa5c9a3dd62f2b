"""COCO's average precision by other people's code: pycocotools, or faster-coco-eval if installed.

Both get the masks of all images at once, so memory grows with the dataset, unlike in `BuiltinAp`.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from typing import Any

import numpy as np

from pipeline.evaluation.sources.source import Floats, IouType

from .ap_builtin import sortable
from .metric import MAX_DETS
from .overlay import Comparison
from .stack import Stack

LIBRARIES = {
    "pycocotools": ("pycocotools.coco", "pycocotools.cocoeval", "COCOeval"),
    "faster-coco-eval": (
        "faster_coco_eval.core.coco",
        "faster_coco_eval.core.faster_eval_api",
        "COCOeval_faster",
    ),
}
"""Name → module of `COCO`, module of the evaluation, name of its class."""


class OfficialAp:
    """Collects objects as COCO dictionaries and lets a library evaluate them.

    Args:
        things: Category ids of objects, ascending.
        library: A key of `LIBRARIES`.
        iou_type: "segm" = masks, "bbox" = boxes.

    Raises:
        ValueError: The library is not installed.
    """

    def __init__(self, things: list[int], library: str, *, iou_type: IouType = "segm") -> None:
        self._things, self._library, self._iou_type = things, library, iou_type
        try:
            coco, evaluation, name = LIBRARIES[library]
            self._coco: Any = importlib.import_module(coco).COCO
            self._evaluation: Any = getattr(importlib.import_module(evaluation), name)
        except ModuleNotFoundError as error:
            raise ValueError(
                f"{library} is not installed ({error}): python -m pip install {library}"
            ) from None
        self._images: list[tuple[int | str, dict[str, Any]]] = []
        self._truth: list[dict[str, Any]] = []
        self._predicted: list[dict[str, Any]] = []

    def add(self, images: Comparison, *, most: Floats | None = None) -> None:
        """Keeps the objects of some images; a prediction without a score gets 1.

        Raises:
            ValueError: There is a `most`: the libraries measure IoU themselves.
        """
        if most is not None:
            raise ValueError(f"{self._library} measures IoU itself: nothing can cut it down")
        truth, predicted, before = images.truth, images.predicted, len(self._images)
        self._images += [
            (item.key, {"height": item.height, "width": item.width}) for item in images.images
        ]
        sizes = [[item.height, item.width] for item in images.images]
        stated = np.where(np.isnan(truth.coco_areas), images.truth_areas, truth.coco_areas)
        for i in np.flatnonzero(np.isin(truth.category_ids, self._things)).tolist():
            self._truth.append(
                {
                    "id": len(self._truth) + 1,  # 0 would read as "no match"
                    "image_id": before + int(truth.image[i]),
                    "category_id": int(truth.category_ids[i]),
                    **_shape(truth, i, sizes),
                    "area": float(stated[i]),
                    "iscrowd": int(truth.iscrowd[i]),
                }
            )
        scores = np.where(np.isnan(predicted.scores), 1.0, predicted.scores)
        for i in np.flatnonzero(np.isin(predicted.category_ids, self._things)).tolist():
            image = predicted.image[i]
            self._predicted.append(
                {
                    "id": len(self._predicted) + 1,
                    "image_id": before + int(image),
                    "category_id": int(predicted.category_ids[i]),
                    **_shape(predicted, i, sizes),
                    "area": float(images.predicted_areas[i]),
                    "iscrowd": 0,
                    "score": float(scores[i]),
                }
            )

    def merge(self, other: OfficialAp) -> None:
        """Adds what `other` has seen of the images that follow."""
        before = len(self._images)
        self._images += other._images
        for mine, more in ((self._truth, other._truth), (self._predicted, other._predicted)):
            first = len(mine) + 1
            for number, item in enumerate(more, start=first):
                mine.append({**item, "id": number, "image_id": item["image_id"] + before})

    def curves(self) -> tuple[Floats, Floats]:
        """Precision and recall, shaped as `BuiltinAp.curves` says."""
        order = sorted(range(len(self._images)), key=lambda i: sortable(self._images[i][0]))
        # Whatever the ids were, numbers from 1 in their order are what every library takes.
        number = {place: new for new, place in enumerate(order, start=1)}
        for item in (*self._truth, *self._predicted):
            item["image_id"] = number[item["image_id"]]
        images = [{"id": number[i], **self._images[i][1]} for i in order]
        categories = [{"id": id_, "name": str(id_)} for id_ in self._things]
        with contextlib.redirect_stdout(io.StringIO()):  # the libraries print as they go
            sides = []
            for annotations in (self._truth, self._predicted):
                side = self._coco()
                side.dataset = {
                    "images": images, "categories": categories, "annotations": annotations
                }  # fmt: skip
                side.createIndex()
                sides.append(side)
            evaluation = self._evaluation(*sides, self._iou_type)
            evaluation.params.maxDets = list(MAX_DETS)
            evaluation.evaluate()
            evaluation.accumulate()
        return np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"])


def _shape(side: Stack, i: int, sizes: list[list[int]]) -> dict[str, Any]:
    """Mask and box of a segment as COCO writes them."""
    if side.boxes is not None:
        return {"bbox": side.boxes[i].tolist()}
    return {
        "segmentation": {"size": sizes[side.image[i]], "counts": side.counts[i]},
        "bbox": [0, 0, 0, 0],
    }
