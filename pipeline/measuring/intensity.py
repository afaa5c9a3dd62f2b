"""Mean, spread and extremes of a picture's values inside each mask."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from pipeline.masks.column_runs import Floats, Ints, MaskRuns

_BLOCK = 2_000_000
"""Pixels of a picture, or of masks, that are worked on at once."""


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


def measure_intensities(runs: MaskRuns, values: npt.NDArray[np.generic]) -> Intensities:
    """Measures n masks of one picture.

    Integers of up to 16 bits are summed once down the columns, after which a run costs two
    look-ups; their sums are exact. Of wider integers and floats every pixel of a mask is looked at.

    Args:
        runs: Of the masks.
        values: HxWxC, the picture.

    Raises:
        ValueError: The picture has another size than the masks'.
    """
    size = values.shape[:2]
    if size != (int(runs.heights[0]), int(runs.widths[0])):
        raise ValueError(f"the picture is {size[1]}x{size[0]} pixels, its masks are not")
    small = values.dtype.kind in "bui" and values.dtype.itemsize <= 2
    measure = _by_run if small else _by_pixel
    channels = [measure(runs, values[..., channel]) for channel in range(values.shape[2])]
    return Intensities(
        *(
            np.stack([getattr(channel, item.name) for channel in channels], axis=1)
            for item in fields(Intensities)
        )
    )


def _by_run(runs: MaskRuns, plane: npt.NDArray[np.generic]) -> Intensities:
    """One channel of small integers, a band of columns at a time."""
    height, width = plane.shape
    order = np.argsort(runs.column * height + runs.top, kind="stable")
    column = runs.column[order]
    size = len(order)
    first, second = np.empty(size, np.int64), np.empty(size, np.int64)
    low, high = np.empty(size, np.int64), np.empty(size, np.int64)
    step = max(_BLOCK // height, 1)
    for left in range(0, width, step):
        here = slice(*np.searchsorted(column, (left, left + step)))
        chosen = order[here]
        if not len(chosen):
            continue
        flat = np.zeros(height * min(step, width - left) + 1, plane.dtype)
        flat[:-1] = plane[:, left : left + step].T.reshape(-1)
        start = (column[here] - left) * height + runs.top[chosen]
        end = start + runs.bottom[chosen] - runs.top[chosen]
        first[chosen] = _between(flat.astype(np.int64), start, end)
        second[chosen] = _between(np.square(flat, dtype=np.int64), start, end)
        edges = np.stack((start, end), axis=1).reshape(-1)
        low[chosen] = np.minimum.reduceat(flat, edges)[::2]
        high[chosen] = np.maximum.reduceat(flat, edges)[::2]
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
