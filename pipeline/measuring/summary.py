"""What a dataset's measurements look like as a whole: counts, notes and distributions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.ledger.ledger import Ledger
from pipeline.masks.column_runs import Floats
from schemas.measurements import MEASUREMENTS_VERSION
from schemas.notes import in_part_line

from .part import MeasureSpec

# Histograms of numbers that pass by twice: once to see their range, once to be counted.

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


SHOWN_CATEGORIES = 60
"""Categories of a task that have distributions of their own: those with the most objects."""

Key = tuple[str, int]
"""Task, and category id or `_ALL`."""

_ALL = 0  # all categories but background


@dataclass(frozen=True, slots=True)
class _Property:
    """A column whose distribution is shown."""

    name: str
    title: str
    column: str
    unit: str = ""
    scales: tuple[str, ...] = ("linear",)
    within: tuple[float, float] | None = None
    factor: float = 1.0
    unless: str = ""
    """Column that has no value where this property counts."""


_UNITS = (("µm", 1.0, "mm²"), ("mm", 1e3, "m²"), ("m", 1e6, "km²"))
"""Unit of lengths, micrometres in it, and unit of the ground that densities refer to."""


def summarise(ledger: Ledger, spec: MeasureSpec, objects: Path, images: Path) -> dict[str, Any]:
    """Reads both finished tables some times over, a row group at a time.

    Args:
        ledger: What was measured.
        spec: How.
        objects: The local table of objects.
        images: The local table of images.

    Returns:
        Plain data for JSON. `categories` has an entry a task for all its segments but background,
        and one a category, each with the distributions of six properties and of the density.
    """
    counts = _count_objects(objects, spec.background)
    about = _count_images(images, spec.tasks)
    chosen = _properties(about)
    shown = _shown(counts, spec)
    found = {
        key: {item.name: Distribution(item.scales, item.within) for item in chosen} for key in shown
    }
    for act in (Distribution.see, Distribution.count):
        for key, values in chain(
            _values(objects, chosen[:-1], spec.background),
            _values(images, chosen[-1:]),
            ((key, {chosen[-1].name: np.zeros(about.without(key))}) for key in shown),
        ):
            for name, numbers in values.items() if key in found else ():
                act(found[key][name], numbers)
    names = {item.id: item.name for item in ledger.categories}
    return {
        "measurements_version": MEASUREMENTS_VERSION,
        "dataset": ledger.uri,
        "version": ledger.manifest.version,
        "settings": {
            "intensity": spec.intensity,
            "neighbour_distance": spec.distance,
            "pixel_size_um": spec.choice.given and spec.choice.given.um,
            "pixel_size_from_files": spec.choice.read,
        },
        "counts": {
            "objects": pq.ParquetFile(objects).metadata.num_rows,
            "images": about.images,
            "failed_images": about.failed,
            "images_with_pixel_size": about.sized,
        },
        "notes": dict(sorted(about.notes.items())),
        "read_in_part": in_part_line(ledger.manifest.in_part),
        "properties": [
            {"name": item.name, "title": item.title, "unit": item.unit} for item in chosen
        ],
        "categories": [
            {
                "task": task,
                "category_id": category or None,
                "category": names.get(category),
                "count": counts[task, category],
                "distributions": {
                    name: item.to_json() for name, item in found[task, category].items()
                },
            }
            for task, category in shown
        ],
    }


def _properties(about: _ImageCounts) -> tuple[_Property, ...]:
    """Six of objects and one of images; in a physical unit where the size of every pixel is known,
    one in which the largest pixels are no large number.
    """
    both = ("log", "linear")
    area = _Property("area", "Area", "area", "px", both)
    feret = _Property("feret_diameter_max", "Feret diameter", "feret_diameter_max", "px", both)
    density = _Property("density", "Density in an image", "density_per_mpx", "per megapixel")
    known: tuple[_Property, ...] = ()
    if about.sized:
        unit, um, ground = next(
            (item for item in _UNITS if about.largest < 100 * item[1]), _UNITS[-1]
        )
        sized = (
            replace(area, column="area_um2", unit=f"{unit}²", factor=um**-2),
            replace(feret, column="feret_diameter_max_um", unit=unit, factor=1 / um),
        )
        if about.sized == about.images - about.failed:
            area, feret = sized
            density = replace(density, column="density_per_mm2", unit=f"per {ground}", factor=um**2)
        else:  # each in the unit that its image knows
            known = tuple(
                replace(item, name=f"{item.name}_known", title=f"{item.title}, size known")
                for item in sized
            )
            area, feret = (
                replace(item, title=f"{item.title}, size unknown", unless="pixel_size_um")
                for item in (area, feret)
            )
    return (
        area,
        feret,
        *known,
        # Objects of a few pixels reach any number; those beyond 1.5 are not drawn.
        _Property("circularity", "Circularity", "circularity", within=(0, 1.5)),
        _Property("eccentricity", "Eccentricity", "eccentricity", within=(0, 1)),
        _Property("solidity", "Solidity", "solidity", within=(0, 1)),
        _Property("intensity_mean", "Mean intensity", "intensity_mean"),
        density,
    )


def _shown(counts: Counter[Key], spec: MeasureSpec) -> list[Key]:
    """All of each task, then its largest categories."""
    keys: list[Key] = []
    for task in spec.tasks:
        own = [key for key in counts if key[0] == task and key[1] not in {_ALL, *spec.background}]
        own.sort(key=lambda key: (-counts[key], key))
        keys += [(task, _ALL), *own[:SHOWN_CATEGORIES]]
    return keys


def _count_objects(path: Path, background: frozenset[int]) -> Counter[Key]:
    """Segments of each category."""
    counts: Counter[Key] = Counter()
    for batch in _batches(path, ["task", "category_id"]):
        counts.update({key: len(mine) for key, mine in _groups(batch, background)})
    return counts


@dataclass(slots=True)
class _ImageCounts:
    """Of the table of images, whose rows without a category are one an image and task."""

    images: int
    failed: int
    sized: int
    largest: float
    notes: Counter[str]
    rows: Counter[Key]

    def without(self, key: Key) -> int:
        """Images that were looked at and hold nothing of a category."""
        return self.images - self.failed - self.rows[key]


def _count_images(path: Path, tasks: tuple[str, ...]) -> _ImageCounts:
    about = _ImageCounts(0, 0, 0, 0.0, Counter(), Counter())
    for batch in _batches(path, ["task", "category_id", "count", "note", "pixel_size_um"]):
        once = batch["task"].to_numpy(zero_copy_only=False) == tasks[0]
        once &= batch["category_id"].is_null().to_numpy()
        images = batch.filter(pa.array(once))
        looked = images.filter(images["count"].is_valid())
        about.images += images.num_rows
        about.failed += images.num_rows - looked.num_rows
        about.sized += looked.num_rows - looked["pixel_size_um"].null_count
        about.largest = max(about.largest, _numbers(looked["pixel_size_um"]).max(initial=0.0))
        about.notes.update(note for note in images["note"].to_pylist() if note)
        known = batch.filter(batch["count"].is_valid())
        about.rows.update({key: len(mine) for key, mine in _groups(known)})
    return about


def _values(
    path: Path, chosen: Sequence[_Property], background: frozenset[int] | None = None
) -> Iterator[tuple[Key, dict[str, Floats]]]:
    """Values of some properties by task and category; `background` as for `_groups`."""
    columns = {item.column for item in chosen} | {item.unless for item in chosen if item.unless}
    for batch in _batches(path, ["task", "category_id", *sorted(columns)]):
        values = {item.name: _numbers(batch[item.column]) * item.factor for item in chosen}
        for item in chosen:
            if item.unless:
                values[item.name][~np.isnan(_numbers(batch[item.unless]))] = np.nan
        for key, mine in _groups(batch, background):
            yield key, {name: numbers[mine] for name, numbers in values.items()}


def _batches(path: Path, columns: list[str]) -> Iterator[pa.Table]:
    file = pq.ParquetFile(path)
    for index in range(file.num_row_groups):
        yield file.read_row_group(index, columns=columns).combine_chunks()


def _groups(
    batch: pa.Table, background: frozenset[int] | None = None
) -> Iterator[tuple[Key, np.ndarray]]:
    """Rows of each task and category; given a background, also of all others together."""
    category = batch["category_id"].fill_null(_ALL).to_numpy()
    task = batch["task"].to_numpy(zero_copy_only=False)
    for name in np.unique(task).tolist():
        own = np.flatnonzero(task == name)
        if background is not None:
            yield (name, _ALL), own[~np.isin(category[own], list(background))]
        for key in np.unique(category[own]).tolist():
            yield (name, key), own[category[own] == key]


def _numbers(column: pa.ChunkedArray) -> Floats:
    """Values as floats, null = NaN; of a list, the mean over its channels."""
    values = column.combine_chunks()
    if not pa.types.is_list(values.type):
        return values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    flat = values.flatten().to_numpy(zero_copy_only=False)
    size = np.where(values.is_null(), 0, np.diff(values.offsets))
    known = np.flatnonzero(size)
    mean = np.full(len(size), np.nan)
    if len(known):
        first = (np.cumsum(size) - size)[known]
        mean[known] = np.add.reduceat(flat, first) / size[known]
    return mean
