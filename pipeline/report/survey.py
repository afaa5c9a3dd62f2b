"""Histograms of a stream of unknown range in bounded memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.ledger.views import PARENT, parents_of
from schemas.categories import Categories
from schemas.records import Status

# Which images the report shows, decided while the dataset streams by.


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """An image that failed or was skipped.

    Attributes:
        image_id: ≥ 1.
        file_name: Path under the input root.
        status: "failed" or "skipped".
        code: Stable word.
        message: One line.
    """

    image_id: int
    file_name: str
    status: str
    code: str
    message: str


class Selection:
    """Some of the labelled images, and the unlabelled ones up to a limit shared fairly by code.

    The labelled ones with the smallest hashes of their ids are chosen: a random sample that stays
    the same but for what comes and goes, so that most files of a report are those of the last.

    Args:
        max_images: How many labelled images (ok or empty) to choose.
        error_counts: code → images that will come with it.
        max_unlabelled: How many of those to keep.
    """

    def __init__(
        self,
        *,
        max_images: int,
        error_counts: Mapping[str, int],
        max_unlabelled: int = 1000,
    ) -> None:
        self._wanted = max_images
        self._below = 1 << 64
        self._found: dict[str, tuple[int, int, bool]] = {}  # file name → hash, id, in the input
        self._left = Counter(_shares(error_counts, max_unlabelled))
        self.unlabelled: list[Unlabelled] = []

    def add(self, images: pa.Table) -> None:
        """Looks at one part's image rows."""
        columns = ("image_id", "file_name", "status", "error_code", "error_message")
        known = (images[column].to_pylist() for column in columns)
        hashes = _hashes(images["image_id"].to_numpy()).tolist()
        for image_id, name, status, code, message, parent, key in zip(
            *known, parents_of(images).to_pylist(), hashes, strict=True
        ):
            if status in ("ok", "empty"):
                if key < self._below:
                    self._found[name] = (key, image_id, parent is None)
            elif self._left[code] > 0:
                self._left[code] -= 1
                self.unlabelled.append(Unlabelled(image_id, name, status, code, message or ""))
        if len(self._found) > 2 * self._wanted:
            self._cut()

    @property
    def chosen(self) -> dict[str, int]:
        """File name → image id of the labelled ones, in input order."""
        self._cut()
        return {name: image_id for name, (_, image_id, _) in self._found.items()}

    @property
    def originals(self) -> set[str]:
        """Names of those of them that lie in the input: not copies."""
        self._cut()
        return {name for name, (_, _, original) in self._found.items() if original}

    def _cut(self) -> None:
        if len(self._found) > self._wanted:
            self._below = sorted(key for key, _, _ in self._found.values())[self._wanted]
            self._found = {name: it for name, it in self._found.items() if it[0] < self._below}


def _hashes(image_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """uint64 of each id; different ones of different ids."""
    mixed = image_ids.astype(np.uint64)
    for factor in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93):
        mixed *= np.uint64(factor)
        mixed ^= mixed >> np.uint64(32)
    return mixed


def _shares(counts: Mapping[str, int], limit: int) -> dict[str, int]:
    """Splits `limit` so that no code goes without because another one is frequent."""
    shares: dict[str, int] = {}
    for place, (code, count) in enumerate(sorted(counts.items(), key=lambda item: item[1])):
        shares[code] = min(count, (limit - sum(shares.values())) // (len(counts) - place))
    return shares


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


def score_bin(scores: Values | float) -> npt.NDArray[np.int64]:
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


# Counts and histograms of a whole dataset, one part at a time.

IMAGE_COLUMNS = ("image_id", "file_name", "status", "error_code", "error_message", PARENT)
ANNOTATION_COLUMNS = ("image_id", "category_id", "area", "score")


class Tally:
    """What the report says about all images, whether shown or not.

    Background is counted as a category but enters no histogram: the remainder of a picture would
    drown the objects.
    """

    def __init__(self, categories: Categories) -> None:
        self._background = [item.id for item in categories if item.is_background]
        self._per_category = {
            item.id: {"segments": 0, "images": 0, "area": Spread(), "score": Spread()}
            for item in categories
        }
        self._area = Spread(), LogHistogram(), LinearHistogram()
        self._score = Spread(), ScoreHistogram()
        self._objects = Spread(), LinearHistogram()
        self.unscored = 0

    def add(self, images: pa.Table, annotations: pa.Table) -> None:
        """Takes in one part.

        Args:
            images: With the columns `IMAGE_COLUMNS`.
            annotations: Of the same images, with the columns `ANNOTATION_COLUMNS`.
        """
        image = annotations["image_id"].to_numpy()
        category = annotations["category_id"].to_numpy()
        area = annotations["area"].to_numpy()
        score = annotations["score"].to_numpy(zero_copy_only=False).astype(np.float64)
        for key in np.unique(category).tolist():
            mine = category == key
            entry = self._per_category[key]
            entry["segments"] += int(mine.sum())
            entry["images"] += len(np.unique(image[mine]))
            entry["area"].add(area[mine])
            entry["score"].add(_known(score[mine]))
        objects = ~np.isin(category, self._background)
        for stream in self._area:
            stream.add(area[objects])
        scores = _known(score[objects])
        self.unscored += int(objects.sum()) - len(scores)
        for stream in self._score:
            stream.add(scores)
        seen = np.isin(images["status"].to_numpy(zero_copy_only=False), _LOOKED_AT)
        per_image = np.unique(image[objects], return_counts=True)[1]
        nothing = int(seen.sum()) - len(per_image)
        for stream in self._objects:
            stream.add(np.concatenate((per_image, np.zeros(max(nothing, 0), np.int64))))

    def category(self, category_id: int) -> dict[str, Any]:
        """segments, images, area and score (`Spread.to_json`) of one category."""
        entry = self._per_category[category_id]
        return {
            "segments": entry["segments"],
            "images": entry["images"],
            "area": entry["area"].to_json(),
            "score": entry["score"].to_json(),
        }

    def histograms(self) -> dict[str, Any]:
        """What the page draws: area (two scales), score, objects an image."""
        return {
            "area": {
                "spread": self._area[0].to_json(),
                "log": self._area[1].to_json(),
                "linear": self._area[2].to_json(),
            },
            "score": {"spread": self._score[0].to_json(), "linear": self._score[1].to_json()},
            "objects": {"spread": self._objects[0].to_json(), "linear": self._objects[1].to_json()},
        }


_LOOKED_AT = [str(Status.OK), str(Status.EMPTY)]


def _known(score: np.ndarray) -> np.ndarray:
    return score[~np.isnan(score)]
