"""COCO's average precision of masks or boxes: the twelve figures, by category, and curves.

The figures are read from precision and recall as `COCOeval.summarize` does, which knows no other
`maxDets` than 1, 10, 100. Here a fourth one of 1000 is measured in the same pass, since pictures
of cells hold more than 100 objects: predictions take their turns by falling score, so the first
100 of 1000 are matched as if they were alone.

All backends give the same figures to the last of `_DIGITS`. Precision and recall of the first two
are the same to the last bit; faster-coco-eval leaves out the 2.2e-16 that pycocotools adds to a
denominator, which makes a lone right prediction 1 instead of 0.9999999999999998.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.sources.categories import Table
from pipeline.evaluation.sources.source import Floats, IouType
from schemas.suggest import nearest

from .ap_builtin import BuiltinAp
from .ap_official import LIBRARIES, OfficialAp
from .metric import MAX_DETS, RECALLS, Figures
from .overlay import Comparison

AP_BACKENDS = ("builtin", *LIBRARIES)
"""Who computes precision and recall; all give the same digits. The first is the default."""

_DIGITS = 12
"""Behind the point; what comes after them is noise of floating point."""
_EVERYTHING, _SMALL, _MEDIUM, _LARGE = range(4)
_HUNDRED = MAX_DETS.index(100)


class ApBackend(Protocol):
    """Computes precision and recall."""

    def add(self, images: Comparison, *, most: Floats | None = None) -> None:
        """Takes the objects of some images into account; `most` cuts down the pairs' IoU."""
        ...

    def merge(self, other: Any) -> None:
        """Adds what another of its kind has seen of the images that follow."""
        ...

    def curves(self) -> tuple[Floats, Floats]:
        """Precision and recall over all images added so far, as `BuiltinAp.curves` says."""
        ...


class CocoAp:
    """AP and AR over IoU 0.5 … 0.95 with at most 100, and at most 1000, predictions an image.

    Args:
        categories: The common table; its things are the objects.
        backend: One of `AP_BACKENDS`.
        iou_type: Which of both the libraries compare; the images are laid over each other so.

    Raises:
        ValueError: The backend is unknown or not installed.
    """

    def __init__(
        self, categories: Table, *, backend: str = AP_BACKENDS[0], iou_type: IouType = "segm"
    ) -> None:
        self._things = sorted(id_ for id_, item in categories.items() if item.isthing)
        if backend not in AP_BACKENDS:
            raise ValueError(
                f"unknown AP backend {backend!r}{nearest(backend, AP_BACKENDS)}; "
                f"known: {', '.join(AP_BACKENDS)}"
            )
        self._backend: ApBackend = (
            OfficialAp(self._things, backend, iou_type=iou_type)
            if backend in LIBRARIES
            else BuiltinAp(self._things)
        )

    def add(self, images: Comparison, *, most: Floats | None = None) -> None:
        """Takes the objects of some images into account; `most` cuts down the pairs' IoU."""
        self._backend.add(images, most=most)

    def merge(self, other: CocoAp) -> None:
        """Adds what `other` has seen of the images that follow."""
        self._backend.merge(other._backend)

    def figures(self) -> Figures:
        """The twelve figures for both limits, overall and by category, and curves."""
        precision, recall = self._backend.curves()
        return Figures(
            _limits(precision, recall),
            {
                id_: _limits(precision[:, :, k : k + 1], recall[:, k : k + 1])
                for k, id_ in enumerate(self._things)
            },
            more={"precision_recall": _curves(precision)},
        )


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
    return {
        "AP": _known_mean(precision[:, :, :, _EVERYTHING, most]),
        "AP50": _known_mean(precision[0, :, :, _EVERYTHING, most]),
        "AP75": _known_mean(precision[5, :, :, _EVERYTHING, most]),
        "AP_small": _known_mean(precision[:, :, :, _SMALL, most]),
        "AP_medium": _known_mean(precision[:, :, :, _MEDIUM, most]),
        "AP_large": _known_mean(precision[:, :, :, _LARGE, most]),
        "AR_1": _known_mean(recall[:, :, _EVERYTHING, 0]),
        "AR_10": _known_mean(recall[:, :, _EVERYTHING, 1]),
        "AR_max": _known_mean(recall[:, :, _EVERYTHING, most]),
        "AR_small": _known_mean(recall[:, :, _SMALL, most]),
        "AR_medium": _known_mean(recall[:, :, _MEDIUM, most]),
        "AR_large": _known_mean(recall[:, :, _LARGE, most]),
    }


def _curves(precision: npt.NDArray[Any]) -> dict[str, list[float | None]]:
    """Precision at 101 recalls, at most 100 predictions an image: mean over the categories."""
    of_all = precision[:, :, :, _EVERYTHING, _HUNDRED]
    known = of_all[:, :, (of_all > -1).all(axis=(0, 1))]
    if not known.shape[2]:
        return {}
    means = known.mean(axis=2)
    return {
        "recall": RECALLS.round(2).tolist(),
        "precision_50": means[0].round(_DIGITS).tolist(),
        "precision_75": means[5].round(_DIGITS).tolist(),
        "precision_50_95": means.mean(axis=0).round(_DIGITS).tolist(),
    }


def _known_mean(values: npt.NDArray[Any]) -> float | None:
    known = values[values > -1]
    return round(float(np.mean(known)), _DIGITS) if len(known) else None
