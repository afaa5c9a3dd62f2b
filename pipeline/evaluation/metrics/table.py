"""The table of metrics, and which of them two sides allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pipeline.evaluation.sources.source import IouType, Source
from schemas.suggest import nearest

from .boundary import BoundaryAp
from .coco_ap import AP_BACKENDS, CocoAp
from .matching import MatchingAccuracy
from .metric import Metric
from .panoptic_quality import PanopticQuality
from .semantic import SemanticIou
from .views import Perspective

METRICS = ("matching", "ap", "boundary", "pq", "miou")
"""Matching accuracy, COCO's AP, Boundary AP, panoptic quality, mean IoU and pixel accuracy."""

VIEW_OF = {
    "matching": "objects",
    "ap": "objects",
    "boundary": "objects",
    "pq": "regions",
    "miou": "pixels",
}
"""Metric → what of both sides it looks at, see `views`."""


def choose_metrics(
    wanted: Sequence[str], truth: Source, predicted: Source, *, iou_type: IouType = "segm"
) -> tuple[str, ...]:
    """Those that were asked for, or all that say something about the tasks of both sides.

    Objects on both sides: matching and AP. Both panoptic: PQ and mean IoU, too. A semantic side:
    mean IoU. Asked for, mean IoU is possible for all, since objects can be painted, PQ for all
    but objects against a semantic side, and Boundary AP where AP is. Boxes have AP alone.

    Args:
        wanted: Some of `METRICS`; empty = all that say something.
        truth: The ground truth.
        predicted: The predictions.
        iou_type: Whether masks or boxes are compared.

    Raises:
        ValueError: An unknown metric, or one that the sides do not allow.
    """
    tasks = {truth.task, predicted.task}
    objects, panoptic = "semantic" not in tasks, tasks == {"panoptic"}
    usual = {"matching": objects, "ap": objects, "pq": panoptic, "miou": panoptic or not objects}
    # PQ needs categories by name or number, which two folders of maps do not have.
    known = truth.categories is not None or predicted.categories is not None
    possible = usual | {"miou": True, "pq": known and tasks != {"semantic", "instance"}}
    usual["boundary"], possible["boundary"] = False, objects
    if iou_type == "bbox":
        usual = possible = {name: name == "ap" and objects for name in METRICS}
    for name in wanted:
        if name not in METRICS:
            raise ValueError(
                f"unknown metric {name!r}{nearest(name, METRICS)}; known: {', '.join(METRICS)}"
            )
    if iou_type == "bbox" and (others := [name for name in wanted if name != "ap"]):
        raise ValueError(f"boxes have no figure but ap, not {', '.join(others)}")
    if iou_type == "bbox" and not objects:
        raise ValueError("boxes are of objects: a semantic side has none")
    if refused := [name for name in wanted if not possible[name]]:
        raise ValueError(
            f"{truth.task} ground truth ({truth.kind}) and {predicted.task} predictions "
            f"({predicted.kind}) do not allow {', '.join(refused)}"
        )
    return tuple(name for name in METRICS if (name in wanted if wanted else usual[name]))


def make_metrics(
    names: Iterable[str],
    views: Mapping[str, Perspective],
    *,
    ap_backend: str = AP_BACKENDS[0],
    iou_type: IouType = "segm",
) -> dict[str, Metric]:
    """Fresh metrics.

    Args:
        names: Some of `METRICS`.
        views: Name → view, of those that the metrics look at.
        ap_backend: One of `AP_BACKENDS`.
        iou_type: Whether masks or boxes are compared.

    Raises:
        ValueError: The backend is unknown or not installed.
    """
    return {name: _make(name, views[VIEW_OF[name]], ap_backend, iou_type) for name in names}


def _make(name: str, view: Perspective, ap_backend: str, iou_type: IouType) -> Metric:
    if name == "matching":
        return MatchingAccuracy(view.table, unlabelled=view.unlabelled)
    if name == "ap":
        return CocoAp(view.table, backend=ap_backend, iou_type=iou_type)
    if name == "boundary":
        return BoundaryAp(view.table)
    if name == "pq":
        return PanopticQuality(view.table, unlabelled=view.unlabelled)
    return SemanticIou(view.table)
