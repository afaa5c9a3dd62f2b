"""The gate: what a version must be like before it is published, and what it breaks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.ledger.diff import carried_parts
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.views import PARENT, without_copies
from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from schemas.config.gate import GateConfig
from schemas.manifest import Part
from schemas.records import Status, Task

from .evaluate import evaluate
from .sources.categories import read_category_map
from .sources.open import open_source

Counts = npt.NDArray[np.int64]

_FIGURES: dict[str, Callable[[dict[str, Any]], float | None]] = {
    "ap": lambda found: found["max_dets_100"]["AP"],
    "pq": lambda found: found["all"]["pq"],
    "miou": lambda found: found["mean_iou"],
    "matching": lambda found: found["accuracy_50_95"],
}
"""Metric → the one figure of it that is held to a limit."""

_AREA_STEPS, _SCORE_STEPS = 16, 1000
"""Bins of an octave of area, and of a score of 1."""
_BINS = 2048
_LEAST_SHARE = 1e-4
"""Stands for an empty bin in a population stability index, which takes logarithms."""
_ROUNDING = 1e-9
"""A mean of ten times 0.6 is a little less than 0.6."""


def check_gold_set(gate: GateConfig, storage: Storage) -> None:
    """Opens the gold set and the category map: a mistake shows before the first image is read.

    Raises:
        ValueError: There is no such file, or it cannot be compared with.
        StorageError: It cannot be read.
    """
    if gate.ground_truth:
        try:
            open_source(gate.ground_truth, gate.ground_truth_kind, storage=storage)
            if gate.category_map:
                read_category_map(gate.category_map, storage)
        except ValueError as error:
            raise ValueError(f"gate.ground_truth: {error}") from error


def find_breaches(gate: GateConfig, candidate: Ledger, standing: Ledger | None) -> list[str]:
    """Every limit that a version does not keep, a phrase each with the number and its limit.

    Args:
        gate: The limits.
        candidate: The version that would be published; its parts are written.
        standing: What readers see now; None holds a first version to the gold set alone.

    Raises:
        ValueError: The gold set and the candidate cannot be compared.
        StorageError: The gold set or the candidate cannot be read.
    """
    found = list(_below(gate, candidate))
    limits = gate.most()
    if limits and standing is not None:
        found += _drifts(limits, candidate, standing)
    return found


def _below(gate: GateConfig, candidate: Ledger) -> Iterator[str]:
    least = gate.least()
    if not least:
        return
    storage = candidate.storage
    names = read_category_map(gate.category_map, storage) if gate.category_map else None
    try:
        overall = evaluate(
            ground_truth=gate.ground_truth,
            ground_truth_kind=gate.ground_truth_kind,
            ledger=candidate,
            metrics=tuple(least),
            category_map=names,
            storage=storage,
        )["overall"]
    except ValueError as error:
        raise ValueError(f"gate.ground_truth: {error}; nothing is published") from error
    for metric, limit in least.items():
        figure = _FIGURES[metric](overall[metric])
        if figure is None or not figure >= limit - _ROUNDING:
            said = "cannot be measured" if figure is None else f"{figure:.6g}"
            yield f"{metric} {said}, at least {limit:g} (gate.min_{metric})"


@dataclass(slots=True)
class _Facts:
    """Sums over the pictures and segments of a version, without copies and background."""

    pictures: int = 0
    segments: int = 0
    area: int = 0
    scored: int = 0
    score: float = 0.0
    categories: Counter[str] = field(default_factory=Counter)
    areas: Counts = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    scores: Counts = field(default_factory=lambda: np.zeros(_BINS, np.int64))

    def add(self, other: _Facts) -> None:
        self.pictures += other.pictures
        self.segments += other.segments
        self.area += other.area
        self.scored += other.scored
        self.score += other.score
        self.categories.update(other.categories)
        self.areas += other.areas
        self.scores += other.scores


def _drifts(limits: dict[str, float], candidate: Ledger, standing: Ledger) -> Iterator[str]:
    tasks: list[Task] = [
        task for task in candidate.manifest.tasks if task in standing.manifest.tasks
    ]
    if not tasks:
        yield f"no task in common with version {standing.manifest.version}: drift is not known"
    for task in tasks:
        where = f"{task}: " if len(candidate.manifest.tasks) > 1 else ""
        new, old = candidate.view(task), standing.view(task)
        size = {p.name: p.removed for p in old.manifest.parts}
        carried = carried_parts(old, new)
        same = {
            p.name for p in new.manifest.parts if p.name in carried and size[p.name] == p.removed
        }
        shared = _facts(new, [p for p in new.manifest.parts if p.name in same])
        after = _facts(new, [p for p in new.manifest.parts if p.name not in same])
        try:
            before = _facts(old, [p for p in old.manifest.parts if p.name not in same])
        except (StorageError, ValueError) as error:
            yield f"{where}drift from version {old.manifest.version} is not known: {error}"
            continue
        after.add(shared)
        before.add(shared)
        yield from (where + text for text in _changes(limits, before, after))


def _changes(limits: dict[str, float], before: _Facts, after: _Facts) -> Iterator[str]:
    means = {
        "max_count_change": ("segments a picture", "segments", "pictures"),
        "max_area_change": ("mean area", "area", "segments"),
        "max_score_change": ("mean score", "score", "scored"),
    }
    for key, (what, total, count) in means.items():
        if key in limits:
            old = _mean(getattr(before, total), getattr(before, count))
            new = _mean(getattr(after, total), getattr(after, count))
            change = _relative(old, new)
            if not abs(change) <= limits[key] + _ROUNDING:
                yield (
                    f"{what} {_said(old)} → {_said(new)}, {change:+.1%}, "
                    f"at most {limits[key]:.4g} (gate.{key})"
                )
    if (most := limits.get("max_share_change")) is not None:
        name, old, new = _largest_shift(before, after)
        if not abs(new - old) <= most + _ROUNDING:
            yield (
                f"share of {name!r} {old:.3f} → {new:.3f}, {new - old:+.3f}, "
                f"at most {most:g} (gate.max_share_change)"
            )
    for key, what in (("max_area_psi", "areas"), ("max_score_psi", "scores")):
        if key in limits:
            index = stability_index(getattr(before, what), getattr(after, what))
            if not index <= limits[key] + _ROUNDING:
                yield (
                    f"population stability index of {what} {index:.4f}, "
                    f"at most {limits[key]:g} (gate.{key})"
                )


def stability_index(expected: Counts, actual: Counts) -> float:
    """The population stability index Σ (a − e) · ln(a / e) over deciles of what was expected.

    Siddiqi, Credit Risk Scorecards (2006): below 0.1 nothing moved, above 0.25 it shifted.

    Args:
        expected: Fine histogram of what was, int64[bins].
        actual: Of what is, in the same bins.

    Returns:
        0 or more; 0 where both are empty, infinity where one is.
    """
    sums = int(expected.sum()), int(actual.sum())
    if not all(sums):
        return 0.0 if not any(sums) else math.inf
    reached = np.cumsum(expected)
    ends = np.searchsorted(reached, sums[0] * np.arange(1, 10) / 10) + 1
    heavy = np.flatnonzero(expected >= sums[0] / 10)  # a value of its own is a bin of its own
    cuts = np.unique(np.concatenate([[0], ends, heavy, heavy + 1]))
    cuts = cuts[cuts < len(expected)]
    shares = [
        np.maximum(np.add.reduceat(counts, cuts) / total, _LEAST_SHARE)
        for counts, total in zip((expected, actual), sums, strict=True)
    ]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _facts(ledger: Ledger, parts: Sequence[Part]) -> _Facts:
    total = _Facts()
    with ThreadPoolExecutor(8) as pool:
        for one in pool.map(lambda part: _facts_of(ledger, part), parts):
            total.add(one)
    return total


def _facts_of(ledger: Ledger, part: Part) -> _Facts:
    parents = [PARENT] if part.copies else []
    images = without_copies(ledger.images_of(part, ["image_id", "status", *parents]))
    looked = np.isin(images["status"].to_pylist(), [str(Status.OK), str(Status.EMPTY)])
    rows = ledger.annotations_of(part, ["image_id", "category_id", "area", "score"])
    background = [item.id for item in ledger.categories if item.is_background]
    kept = ~np.isin(rows["category_id"].to_numpy(), background)
    if part.copies:
        kept &= np.isin(rows["image_id"].to_numpy(), images["image_id"].to_numpy())
    rows = rows.filter(pa.array(kept))
    names = {item.id: item.name for item in ledger.categories}
    areas = rows["area"].to_numpy().astype(np.int64)
    scores = rows["score"].drop_null().to_numpy().astype(np.float64)
    ids, counts = np.unique(rows["category_id"].to_numpy(), return_counts=True)
    found: Counter[str] = Counter()
    for id_, count in zip(ids.tolist(), counts.tolist(), strict=True):
        found[names[id_]] += count
    return _Facts(
        pictures=int(looked.sum()),
        segments=len(rows),
        area=int(areas.sum()),
        scored=len(scores),
        score=float(scores.sum()),
        categories=found,
        areas=_histogram(np.log2(np.maximum(areas, 1)) * _AREA_STEPS),
        scores=_histogram(scores * _SCORE_STEPS),
    )


def _histogram(steps: npt.NDArray[np.float64]) -> Counts:
    return np.bincount(np.clip(steps, 0, _BINS - 1).astype(np.int64), minlength=_BINS)


def _largest_shift(before: _Facts, after: _Facts) -> tuple[str, float, float]:
    """The category whose share of the segments changed most, and both shares."""
    shares = [
        (
            name,
            before.categories[name] / max(before.segments, 1),
            after.categories[name] / max(after.segments, 1),
        )
        for name in sorted({*before.categories, *after.categories})
    ]
    return max(shares, key=lambda one: round(abs(one[2] - one[1]), 9), default=("", 0.0, 0.0))


def _mean(total: float, count: int) -> float | None:
    return total / count if count else None


def _relative(old: float | None, new: float | None) -> float:
    """Change as a share of what was; infinite where only one of them is something."""
    if (old or 0.0) == (new or 0.0) and (old is None) == (new is None):
        return 0.0
    return (new - old) / old if old and new is not None else math.inf


def _said(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
