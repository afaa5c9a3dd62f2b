"""How often each 8-bit value occurs in a picture of any size."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

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
