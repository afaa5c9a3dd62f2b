"""A part of a mask as pixels, without decoding the rest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from . import rle


def mask_window(
    counts: bytes, height: int, width: int, box_xyxy: tuple[int, int, int, int]
) -> npt.NDArray[np.uint8]:
    """Decodes a box of a mask.

    Args:
        counts: Compressed RLE of the whole picture's mask.
        height: Of the picture, pixels.
        width: Of the same.
        box_xyxy: Left, top, right, bottom in pixels, the last two not included; inside the picture.

    Returns:
        (bottom − top)×(right − left) uint8, 1 inside the mask.

    Raises:
        ValueError: The string is malformed or belongs to another picture size, or the box is empty
            or leaves the picture.
    """
    left, top, right, bottom = box_xyxy
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(f"no box of a {width} × {height} picture: {box_xyxy}")
    ends = np.cumsum(rle.expand(counts, height * width))
    first, last = left * height, right * height  # columns follow one another
    begin, end = np.searchsorted(ends, (first, last), side="right")
    edges = np.concatenate(([first], ends[begin:end], [last])).clip(first, last)
    value = (np.arange(begin, end + 1) & 1).astype(np.uint8)
    columns = np.repeat(value, np.diff(edges)).reshape(right - left, height)
    return np.ascontiguousarray(columns[:, top:bottom].T)
