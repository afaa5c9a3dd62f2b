"""What of both sides is laid over each other: their objects, their pixels, or parted regions.

A side of objects is compared with labelled pixels by painting it: the objects of the ground truth
the larger first, those of the predictions by falling score from the top; what is left over is
background. Crowds of the ground truth are void, except where an object lies over them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import numpy as np

from pipeline.evaluation.sources.categories import CategoryMatch, ScoredCategory, Table
from pipeline.evaluation.sources.source import Ints, Source
from schemas.suggest import nearest

from .stack import Stack, parted, with_rest

Unknown = Literal["missed", "background", "void"]
"""What becomes of true segments whose category the predictions do not have: they count as missed,
their pixels are background, or they count nowhere."""

UNKNOWN: tuple[Unknown, ...] = get_args(Unknown)

_VOID = int(np.iinfo(np.int64).min)
"""Category id of pixels that count nowhere."""


def unknown_named(name: str | None) -> Unknown | None:
    """The choice of this name; None stays None.

    Raises:
        ValueError: There is no such choice.
    """
    for choice in UNKNOWN:
        if name == choice:
            return choice
    if name is None:
        return None
    raise ValueError(
        f"unknown_categories is {name!r}{nearest(name, UNKNOWN)}; known: {', '.join(UNKNOWN)}"
    )


@dataclass(frozen=True, slots=True)
class Perspective:
    """A way of looking at both sides.

    Attributes:
        table: The categories that are told apart.
        truth: What becomes of the segments of the ground truth.
        predicted: What becomes of the predicted ones.
        unlabelled: Pixels without a true segment are unlabelled instead of empty.
        unknown: What becomes of true segments whose category the predictions do not have.
    """

    table: Table
    truth: Callable[[Stack], Stack]
    predicted: Callable[[Stack], Stack]
    unlabelled: bool
    unknown: Unknown


def objects_view(
    match: CategoryMatch, truth: Source, predicted: Source, unknown: Unknown | None
) -> Perspective:
    """Segments as they are; those of unknown categories are missed unless told otherwise."""
    table = _kept(match, unknown or "missed")
    return Perspective(
        table=table,
        truth=partial(_objects, ids=_into(table, match.truth_ids)),
        predicted=partial(_objects, ids=_into(table, match.predicted_ids)),
        unlabelled=truth.task != "instance",
        unknown=unknown or "missed",
    )


def regions_view(
    match: CategoryMatch, truth: Source, predicted: Source, unknown: Unknown | None
) -> Perspective:
    """Segments that do not overlap, of the categories that are of one kind on both sides.

    Against objects alone: things. Objects that overlap are parted as for painting. Of a panoptic
    and a semantic side: stuff. Of two semantic sides: all, each category one region.
    """
    objects, tasks = objects_view(match, truth, predicted, unknown), {truth.task, predicted.task}
    table = objects.table
    if tasks not in ({"panoptic"}, {"semantic"}):
        things = "instance" in tasks
        table = {id_: item for id_, item in table.items() if item.isthing == things}
    return Perspective(
        table=table,
        truth=partial(_regions, ids=_into(table, match.truth_ids), is_truth=True),
        predicted=partial(_regions, ids=_into(table, match.predicted_ids), is_truth=False),
        unlabelled=objects.unlabelled,
        unknown=objects.unknown,
    )


def pixels_view(
    match: CategoryMatch, truth: Source, predicted: Source, unknown: Unknown | None
) -> Perspective:
    """One category a pixel. Unknown ones are background where a side is painted, else missed.

    Where unknown categories are background, they are so on both sides.

    Raises:
        ValueError: Unknown categories cannot be background, since there is none.
    """
    painted = "instance" in (truth.task, predicted.task)
    # A list of results tells only which categories were found.
    usual: Unknown = "background" if painted and predicted.kind != "coco-results" else "missed"
    policy = unknown or usual
    table = dict(_kept(match, policy))
    rest = match.background()
    if rest is None and (painted or (policy == "background" and _has_background(predicted))):
        rest = 0 if 0 not in match.table else max(match.table) + 1
        table[rest] = ScoredCategory(rest, "background", isthing=False, is_background=True)
    if rest is None and policy == "background":
        raise ValueError("unknown categories cannot be background: no category is the background")
    others = {"missed": None, "background": rest, "void": _VOID}[policy]
    as_they_come = policy == "missed" and truth.categories is None and match.truth_ids is None
    everything_else = rest if painted or policy == "background" else None
    by_number = predicted.categories is None and match.predicted_ids is None
    into_predicted = _into(table, match.predicted_ids)
    return Perspective(
        table=table,
        truth=partial(
            _pixels,
            ids=None if as_they_come else _into(table, match.truth_ids),
            others=others,
            rest=rest if truth.task == "instance" else None,
            is_truth=True,
        ),
        predicted=partial(
            _pixels,
            ids=None if by_number and everything_else is None else into_predicted,
            others=everything_else,
            rest=rest if painted else None,
            is_truth=False,
        ),
        unlabelled=True,
        unknown=policy,
    )


def _kept(match: CategoryMatch, unknown: Unknown) -> Table:
    """The common table, or what of it the predictions know."""
    if unknown == "missed":
        return match.table
    gone = {id_ for id_ in match.unpredictable if not match.table[id_].is_background}
    return {id_: item for id_, item in match.table.items() if id_ not in gone}


def _has_background(side: Source) -> bool:
    return any(item.is_background for item in (side.categories or {}).values())


def _into(table: Table, ids: Mapping[int, int] | None) -> dict[int, int]:
    """Ids of a side → ids in the table."""
    if ids is None:
        return {id_: id_ for id_ in table}
    return {here: there for here, there in ids.items() if there in table}


def _objects(side: Stack, *, ids: Mapping[int, int]) -> Stack:
    return side.in_terms_of(ids)


def _regions(side: Stack, *, ids: Mapping[int, int], is_truth: bool) -> Stack:
    side = side.in_terms_of(ids)
    return parted(side, _priority(side, is_truth=is_truth)) if side.overlap() else side


def _pixels(
    side: Stack,
    *,
    ids: Mapping[int, int] | None,
    others: int | None,
    rest: int | None,
    is_truth: bool,
) -> Stack:
    if ids is not None:
        side = side.in_terms_of(ids, others=others)
    if is_truth and rest is not None:
        side = replace(side, category_ids=np.where(side.iscrowd, _VOID, side.category_ids))
    if side.overlap():
        side = parted(side, _priority(side, is_truth=is_truth))
    if rest is not None:
        side = with_rest(side, rest)
    return side.take(side.category_ids != _VOID)


def _priority(side: Stack, *, is_truth: bool) -> Ints:
    """The place of each segment among all, the topmost last."""
    scores = np.where(np.isnan(side.scores) | is_truth, 1.0, side.scores)
    place = np.empty(len(side), np.int64)
    place[np.lexsort((-side.areas(), scores, ~side.iscrowd))] = np.arange(len(side))
    return place


VIEWS: Mapping[str, Callable[[CategoryMatch, Source, Source, Unknown | None], Perspective]] = {
    "objects": objects_view,
    "regions": regions_view,
    "pixels": pixels_view,
}
"""Name → what makes the view of two sides, given how their categories match."""
