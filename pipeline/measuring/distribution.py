"""Histograms of numbers that pass by twice: once to see their range, once to be counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .mask_runs import Floats

_PER_DECADE = 8
_BINS = 30
_DIGITS = 6


class Distribution:
    """First `see` everything, then `count` the same again.

    Args:
        scales: "log" (for values > 0), "linear", or both.
        within: Edges of the linear bins; values beyond are seen, but not counted.
    """

    def __init__(self, scales: Sequence[str], within: tuple[float, float] | None = None) -> None:
        self._scales, self._within = scales, within
        self._number, self._total = 0, 0.0
        self._low, self._high = math.inf, -math.inf
        self._edges: dict[str, Floats] = {}
        self._counts: dict[str, np.ndarray] = {}

    def see(self, values: Floats) -> None:
        """Takes values into account; NaN is no value."""
        values = values[np.isfinite(values)]
        if len(values):
            self._number += len(values)
            self._total += float(values.sum())
            self._low = min(self._low, float(values.min()))
            self._high = max(self._high, float(values.max()))

    def count(self, values: Floats) -> None:
        """Counts values that were seen before."""
        values = values[np.isfinite(values)]
        for scale in self._scales if self._number else ():
            if scale not in self._edges:
                self._edges[scale] = self._make_edges(scale)
                self._counts[scale] = np.zeros(len(self._edges[scale]) - 1, np.int64)
            edges, inside = self._edges[scale], values
            if scale == "linear" and self._within:
                low, high = self._within
                inside = values[(values >= low) & (values <= high)]
            # Clipped: the greatest value, and what rounding put beside the first or last edge.
            place = (np.searchsorted(edges, inside, side="right") - 1).clip(0, len(edges) - 2)
            self._counts[scale] += np.bincount(place, minlength=len(edges) - 1)

    def to_json(self) -> dict[str, Any]:
        """spread: count, low, mean and high, or None; and for each scale edges and counts."""
        if not self._number:
            return {"spread": None, **{scale: _binned((), ()) for scale in self._scales}}
        spread = {
            "count": self._number,
            "low": _short(self._low),
            "mean": _short(self._total / self._number),
            "high": _short(self._high),
        }
        return {"spread": spread} | {
            scale: _binned(self._edges[scale], self._counts[scale]) for scale in self._scales
        }

    def _make_edges(self, scale: str) -> Floats:
        if scale == "log":
            first = math.floor(math.log10(self._low) * _PER_DECADE + 1e-9)
            last = math.floor(math.log10(self._high) * _PER_DECADE + 1e-9) + 1
            return np.power(10.0, np.arange(first, last + 1, dtype=np.float64) / _PER_DECADE)
        low, high = self._within or (min(self._low, 0.0), self._high)
        # Few values in many bins are a comb: about twice the square root of their number.
        step = _round_step((high - low) / min(max(2 * math.isqrt(self._number), 10), _BINS))
        first = math.floor(low / step)
        last = max(math.ceil(high / step), first + 1)
        return np.arange(first, last + 1, dtype=np.float64) * step


def _round_step(raw: float) -> float:
    """The next 1, 2, 2.5 or 5 times a power of ten."""
    if raw <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999999)


def _binned(edges: Any, counts: Any) -> dict[str, list[Any]]:
    return {"edges": [_short(float(edge)) for edge in edges], "counts": [int(n) for n in counts]}


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
