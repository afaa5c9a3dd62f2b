"""Histograms of a stream of unknown range in bounded memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]
Binned = dict[str, list[Any]]
"""{"edges": n + 1 numbers, "counts": n numbers}."""

_PER_DECADE = 8
_DECADES = 10
SCORE_BINS = 20


class LinearHistogram:
    """Equal bins from 0 on whose width doubles whenever a value falls beyond the last one.

    Args:
        bins: A power of two; once a value ≥ `bins` was seen, more than half of them are in use.
    """

    def __init__(self, bins: int = 64) -> None:
        self._counts = np.zeros(bins, np.int64)
        self._width = 1

    def add(self, values: Values) -> None:
        """Counts integers ≥ 0."""
        if not len(values):
            return
        while int(values.max()) >= self._width * len(self._counts):
            half = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts = np.concatenate((half, np.zeros_like(half)))
            self._width *= 2
        self._counts += np.bincount(values // self._width, minlength=len(self._counts))

    def to_json(self) -> Binned:
        """{"edges": n + 1 numbers, "counts": n numbers}, cut behind the last bin in use."""
        counts, width = self._counts, self._width
        # Few values in many bins are a comb: about twice the square root of their number.
        limit = min(max(2 * math.isqrt(int(counts.sum())), 10), 40)
        while len(np.trim_zeros(counts, "b")) > limit:
            counts, width = counts.reshape(-1, 2).sum(axis=1), 2 * width
        counts = np.trim_zeros(counts, "b")
        edges = (np.arange(len(counts) + 1) * width).tolist() if len(counts) else []
        return {"edges": edges, "counts": counts.tolist()}


class LogHistogram:
    """Eight bins a power of ten, for integers from 1 to 10^10."""

    def __init__(self) -> None:
        self._counts = np.zeros(_PER_DECADE * _DECADES, np.int64)

    def add(self, values: Values) -> None:
        """Counts integers ≥ 1."""
        place = np.floor(np.log10(values) * _PER_DECADE + 1e-9).astype(np.int64)
        self._counts += np.bincount(
            place.clip(0, len(self._counts) - 1), minlength=len(self._counts)
        )

    def to_json(self) -> Binned:
        """{"edges": n + 1 numbers, "counts": n numbers}, cut to the bins in use."""
        used = np.flatnonzero(self._counts)
        first, last = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
        edges = np.round(10 ** (np.arange(first, last + 1) / _PER_DECADE), 3).tolist()
        return {"edges": edges if len(used) else [], "counts": self._counts[first:last].tolist()}


def score_bin(scores: Values) -> npt.NDArray[np.int64]:
    """The bin 0…19 of scores in 0…1; 1.0 belongs to the last one.

    Scores are stored as 32-bit floats: 0.15 must not fall below its own edge.
    """
    place = np.floor(np.asarray(scores, np.float64) * SCORE_BINS + 1e-5).astype(np.int64)
    return place.clip(0, SCORE_BINS - 1)


class ScoreHistogram:
    """Twenty bins from 0 to 1."""

    def __init__(self) -> None:
        self._counts = np.zeros(SCORE_BINS, np.int64)

    def add(self, values: Values) -> None:
        """Counts scores in 0…1."""
        self._counts += np.bincount(score_bin(values), minlength=SCORE_BINS)

    def to_json(self) -> Binned:
        """{"edges": 21 numbers, "counts": 20 numbers}; both empty where there was no score."""
        if not self._counts.any():
            return {"edges": [], "counts": []}
        edges = [round(i / SCORE_BINS, 2) for i in range(SCORE_BINS + 1)]
        return {"edges": edges, "counts": self._counts.tolist()}


class Spread:
    """Number, least, mean and greatest of a stream."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.low = float("inf")
        self.high = float("-inf")

    def add(self, values: Values) -> None:
        """Takes in any numbers."""
        if len(values):
            self.count += len(values)
            self.total += float(values.sum(dtype=np.float64))
            self.low = min(self.low, float(values.min()))
            self.high = max(self.high, float(values.max()))

    def to_json(self) -> dict[str, float] | None:
        """{"count", "low", "mean", "high"}, None for an empty stream."""
        if not self.count:
            return None
        return {
            "count": self.count,
            "low": round(self.low, 4),
            "mean": round(self.total / self.count, 4),
            "high": round(self.high, 4),
        }
