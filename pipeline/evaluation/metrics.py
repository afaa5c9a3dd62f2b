"""The table of metrics, and which of them two sides allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from schemas.suggest import nearest

from .categories import Table
from .coco_ap import CocoAp
from .matching import MatchingAccuracy
from .metric import Metric
from .panoptic_quality import PanopticQuality
from .semantic import SemanticIou
from .source import Source

METRICS = ("matching", "ap", "pq", "miou")
"""Matching accuracy, COCO's AP, panoptic quality, mean IoU and pixel accuracy."""


def choose_metrics(
    wanted: Sequence[str], truth: Source, predicted: Source, *, whole_pictures: bool = False
) -> tuple[str, ...]:
    """Objects on both sides: matching and AP. All of both pictures labelled: mean IoU. Both
    panoptic: PQ, too.

    Args:
        wanted: Some of `METRICS`; empty = all that are possible.
        truth: The ground truth.
        predicted: The predictions.
        whole_pictures: What the true objects leave over is known to be background.

    Raises:
        ValueError: An unknown metric, or one that the sides do not allow.
    """
    tasks = {truth.task, predicted.task}
    possible = {
        "matching": "semantic" not in tasks,
        "ap": "semantic" not in tasks,
        "pq": tasks == {"panoptic"},
        "miou": "instance" not in tasks or whole_pictures,
    }
    for name in wanted:
        if name not in METRICS:
            raise ValueError(
                f"unknown metric {name!r}{nearest(name, METRICS)}; known: {', '.join(METRICS)}"
            )
    sides = (
        f"{truth.task} ground truth ({truth.kind}) and "
        f"{predicted.task} predictions ({predicted.kind})"
    )
    if refused := [name for name in wanted if not possible[name]]:
        raise ValueError(f"{sides} do not allow {', '.join(refused)}")
    chosen = tuple(n for n in METRICS if possible[n] and (n in wanted or not wanted))
    if not chosen:
        raise ValueError(f"{sides} have no metric in common")
    return chosen


def make_metrics(names: Iterable[str], categories: Table, *, unlabelled: bool) -> dict[str, Metric]:
    """Fresh metrics.

    Args:
        names: Some of `METRICS`.
        categories: The common table.
        unlabelled: Whether pixels without a true segment are unlabelled instead of empty.
    """
    makers: dict[str, Callable[[], Metric]] = {
        "matching": lambda: MatchingAccuracy(categories, unlabelled=unlabelled),
        "ap": lambda: CocoAp(categories),
        "pq": lambda: PanopticQuality(categories),
        "miou": lambda: SemanticIou(categories),
    }
    return {name: makers[name]() for name in names}
