"""What every metric is: it is shown images batch by batch and then asked for its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from pipeline.evaluation.sources.source import Floats

from .overlay import Comparison


@dataclass(frozen=True, slots=True)
class Figures:
    """The result of a metric; NaN never occurs, None is "nothing to measure".

    Attributes:
        overall: Over all categories.
        per_category: Category id → the same for this category alone.
        images: Rows about the images that came out worst, where the metric has some.
        more: Further parts of the result by their names.
    """

    overall: dict[str, Any]
    per_category: dict[int, dict[str, Any]]
    images: list[dict[str, Any]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)


class Metric(Protocol):
    """One way of comparing."""

    def add(self, images: Comparison) -> None:
        """Takes some images into account."""
        ...

    def merge(self, other: Any) -> None:
        """Adds what another of its kind has seen of the images that follow; it is then spent."""
        ...

    def figures(self) -> Figures:
        """The figures over all images added so far."""
        ...


def ratio(numerator: float, denominator: float) -> float | None:
    """numerator / denominator, None where the denominator is 0."""
    return float(numerator) / float(denominator) if denominator else None


def mean(values: list[float | None]) -> float | None:
    """Mean of what is not None, None where nothing is left."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


# The images that came out worst, without keeping all of them.

LISTED = 100
"""Images and names that are listed; the numbers beside them cover all."""


class WorstImages:
    """Keeps the rows with the lowest figures.

    Args:
        key: Which figure of a row counts; rows where it is None are not kept.
        most: So many rows.
    """

    def __init__(self, key: str, most: int = LISTED) -> None:
        self._key, self._most = key, most
        self._rows: list[dict[str, Any]] = []

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Looks at the rows of some images; each has a `file_name`."""
        self._rows += [row for row in rows if row[self._key] is not None]
        if len(self._rows) > 4 * self._most:
            self._rows = self.rows()

    def merge(self, other: WorstImages) -> None:
        """Adds the rows of another."""
        self.add(other._rows)

    def rows(self) -> list[dict[str, Any]]:
        """The worst first; equal ones by name."""
        return sorted(self._rows, key=lambda row: (row[self._key], row["file_name"]))[: self._most]


# The constants of COCO's average precision: those of `pycocotools.cocoeval.Params` for masks.

IOU_THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
"""Written as pycocotools writes them: 0.55 here is not always the nearest number to 0.55."""
RECALLS: Floats = np.linspace(0.0, 1.0, 101)
AREA_RANGES = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
"""All, small, medium, large: area in pixels, both ends included."""
MAX_DETS = (1, 10, 100, 1000)
"""The most predictions of a category in an image that count, by score. COCO's own are 1, 10, 100;
1000 is measured beside them since pictures of cells hold more than 100 objects."""
