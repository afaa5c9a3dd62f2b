"""What every metric is: it is shown images batch by batch and then asked for its figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from .comparison import Comparison


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
