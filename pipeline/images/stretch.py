"""Deep pixels (16-bit, 32-bit, float) to 8 bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

LOW, HIGH = 0.001, 0.999
"""Share of the pixels below the value that becomes 0, and at or below the one that becomes 255."""


def stretch(pixels: npt.NDArray[Any], mode: Literal["percentile", "full"]) -> npt.NDArray[np.uint8]:
    """Maps a picture's values linearly to 0…255.

    All channels share one map, so colours keep their balance. A picture of one value becomes 0.

    Args:
        pixels: HxW or HxWxC, integers of any width or floats. NaN becomes 0.
        mode: "percentile" maps the picture's 0.1 and 99.9 percentiles (its extremes where these
            two fall together); "full" maps the whole range of a 16-bit type, 0…1 for floats that
            stay within it, and the picture's extremes for anything wider, which has no agreed
            range.

    Returns:
        The same shape, uint8.
    """
    if pixels.dtype.kind in "iu" and pixels.dtype.itemsize <= 2:
        info = np.iinfo(pixels.dtype)
        shifted = (pixels.astype(np.int32) - info.min).astype(np.uint16)
        count = np.bincount(shifted.reshape(-1), minlength=65536)
        return stretch_table(count, mode, info.max - info.min)[shifted]
    values = pixels.astype(np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.zeros(pixels.shape, np.uint8)
    low, high = float(finite.min()), float(finite.max())
    if mode == "percentile":
        inner = np.quantile(finite, (LOW, HIGH))
        low, high = inner.tolist() if inner[0] < inner[1] else (low, high)
    elif pixels.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    return ramp(values, low, high)


def stretch_table(
    count: npt.NDArray[np.int64], mode: Literal["percentile", "full"], most: int = 65535
) -> npt.NDArray[np.uint8]:
    """Value → 8 bits, of a picture of integers from 0 of which it is counted how often each comes.

    Args:
        count: 65536 counts.
        mode: As for `stretch`.
        most: The largest value of its type.
    """
    low, high = _percentiles(count) if mode == "percentile" else (0, most)
    return ramp(np.arange(65536), low, high)


def _percentiles(count: npt.NDArray[np.int64]) -> tuple[int, int]:
    below = np.cumsum(count)
    low, high = np.searchsorted(below, (LOW * below[-1], HIGH * below[-1])).tolist()
    if low == high:
        low, high = np.flatnonzero(count)[[0, -1]].tolist()
    return low, high


def ramp(values: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Maps `low` and what is below to 0, `high` and what is above to 255; NaN becomes 0.

    Args:
        values: Of any shape. Floats are computed with in their own precision, integers in float64.
        low: One end.
        high: The other; where it is not above `low` all becomes 0.
    """
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    scaled = (np.clip(values, low, high) - low) * (255 / (high - low))
    return np.rint(np.nan_to_num(scaled, copy=False, nan=0.0)).astype(np.uint8)


# How often each 8-bit value occurs in a picture of any size.

_AT_ONCE = 1 << 24  # values; OpenCV counts in float32, which is exact up to here

Pixels = npt.NDArray[np.uint8]


def histogram(
    pixels: Pixels, change: Callable[[Pixels], Pixels] | None = None
) -> npt.NDArray[np.int64]:
    """Counts the values of all channels; memory is that of a few rows.

    Args:
        pixels: HxW or HxWxC.
        change: Applied to a few rows at a time before they are counted.

    Returns:
        256 counts.
    """
    total = np.zeros(256, np.int64)
    rows = max(1, _AT_ONCE // max(1, pixels[:1].size))
    for top in range(0, len(pixels), rows):
        part = pixels[top : top + rows]
        part = np.ascontiguousarray(part if change is None else change(part))
        for begin in range(0, part.size, _AT_ONCE):
            values = part.reshape(-1)[begin : begin + _AT_ONCE]
            total += cv2.calcHist([values], [0], None, [256], [0, 256]).reshape(-1).astype(np.int64)
    return total
