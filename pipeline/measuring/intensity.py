"""Mean, spread and extremes of a picture's values inside each mask."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.masks.column_runs import Floats, Ints, MaskRuns

_BLOCK = 2_000_000
"""Pixels of a picture, or of masks, that are worked on at once."""
_STRIP = 512
"""Columns of a picture in a file that are read at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Intensities:
    """n×C values each, in the picture's own units.

    Attributes:
        mean: Over the mask's pixels.
        std: Standard deviation over them, divided by their number.
        min: Least value.
        max: Greatest value.
    """

    mean: Floats
    std: Floats
    min: Floats
    max: Floats


def measure_intensities(runs: MaskRuns, values: Any, bands: int | None = None) -> Intensities:
    """Measures n masks of one picture.

    Integers of up to 16 bits are summed once down the columns, after which a run costs two
    look-ups; their sums are exact. Of wider integers and floats every pixel of a mask is looked at.

    Args:
        runs: Of the masks.
        values: HxWxC, the picture: an array, or small integers that are read where they are sliced.
        bands: How many of the C are measured, the first ones; None = all.

    Raises:
        ValueError: The picture has another size than the masks'.
    """
    size = values.shape[:2]
    if size != (int(runs.heights[0]), int(runs.widths[0])):
        raise ValueError(f"the picture is {size[1]}x{size[0]} pixels, its masks are not")
    count = values.shape[2] if bands is None else bands
    small = values.dtype.kind in "bui" and values.dtype.itemsize <= 2
    if small:
        channels = _by_run(runs, values, count)
    else:
        channels = [_by_pixel(runs, values[..., channel]) for channel in range(count)]
    return Intensities(
        *(
            np.stack([getattr(channel, item.name) for channel in channels], axis=1)
            for item in fields(Intensities)
        )
    )


def _by_run(runs: MaskRuns, values: Any, bands: int) -> list[Intensities]:
    """Each channel of small integers, a band of columns at a time."""
    height, width = values.shape[:2]
    order = np.argsort(runs.column * height + runs.top, kind="stable")
    column = runs.column[order]
    first, second = np.empty((2, bands, len(order)), np.int64)
    low, high = np.empty((2, bands, len(order)), values.dtype)
    step = max(_BLOCK // height, 1)
    # What is read where it is sliced lies in tiles: they are not read for every few columns.
    wide = step if isinstance(values, np.ndarray) else step * -(-_STRIP // step)
    strip, begin = values, 0
    for left in range(0, width, step):
        here = slice(*np.searchsorted(column, (left, left + step)))
        chosen = order[here]
        if not len(chosen):
            continue
        if wide > step and (strip is values or left >= begin + wide):
            begin = left - left % wide
            strip = values[:, begin : begin + wide]
        start = (column[here] - left) * height + runs.top[chosen]
        end = start + runs.bottom[chosen] - runs.top[chosen]
        edges = np.stack((start, end), axis=1).reshape(-1)
        columns = slice(left - begin, min(left + step, width) - begin)
        flat = np.zeros(height * (columns.stop - columns.start) + 1, values.dtype)
        for band in range(bands):
            flat[:-1] = strip[:, columns, band].T.reshape(-1)
            first[band, chosen] = _between(flat.astype(np.int64), start, end)
            second[band, chosen] = _between(np.square(flat, dtype=np.int64), start, end)
            low[band, chosen] = np.minimum.reduceat(flat, edges)[::2]
            high[band, chosen] = np.maximum.reduceat(flat, edges)[::2]
    return [
        _of_sums(runs, *(one[band] for one in (first, second, low, high))) for band in range(bands)
    ]


def _of_sums(
    runs: MaskRuns, first: Ints, second: Ints, low: npt.NDArray[Any], high: npt.NDArray[Any]
) -> Intensities:
    """Of masks, from the sums of values and their squares and the extremes of every run."""
    area = runs.total(runs.lengths())
    total, squares = runs.total(first), runs.total(second)
    mean = total / area
    # Squares of the distances from a whole number near the mean: exact, and small.
    middle = np.rint(mean).astype(np.int64)
    squares -= 2 * middle * total - middle * middle * area
    variance = squares / area - (mean - middle) ** 2
    return Intensities(
        mean,
        np.sqrt(np.maximum(variance, 0)),
        np.minimum.reduceat(low, runs.first).astype(np.float64),
        np.maximum.reduceat(high, runs.first).astype(np.float64),
    )


def _between(values: Ints, start: Ints, end: Ints) -> Ints:
    """Sums of values[start:end]; works in place."""
    np.cumsum(values, out=values)
    # Sums up to and without an index: shifted by one, with 0 before the first.
    return values[end - 1] - np.where(start > 0, values[start - 1], 0)


def _by_pixel(runs: MaskRuns, plane: npt.NDArray[np.generic]) -> Intensities:
    """One channel of any numbers, some masks at a time."""
    height = plane.shape[0]
    flat = plane.T.reshape(-1)
    length = runs.lengths()
    area = runs.total(length)
    size = len(area)
    mean, std = np.empty(size), np.empty(size)
    low, high = np.empty(size), np.empty(size)
    stop = np.append(runs.first[1:], len(length))
    pixels = np.cumsum(area)
    at = 0
    while at < size:
        until = max(at + 1, int(np.searchsorted(pixels, pixels[at] - area[at] + _BLOCK, "right")))
        mine = slice(runs.first[at], stop[until - 1])
        count = length[mine]
        start = runs.column[mine] * height + runs.top[mine] - (np.cumsum(count) - count)
        inside = flat[np.arange(count.sum()) + np.repeat(start, count)].astype(np.float64)
        here = slice(at, until)
        first = np.cumsum(area[here]) - area[here]
        mean[here] = np.add.reduceat(inside, first) / area[here]
        low[here] = np.minimum.reduceat(inside, first)
        high[here] = np.maximum.reduceat(inside, first)
        inside -= np.repeat(mean[here], area[here])
        std[here] = np.sqrt(np.add.reduceat(inside * inside, first) / area[here])
        at = until
    return Intensities(mean, std, low, high)
