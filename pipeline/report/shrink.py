"""Masks at thumbnail size, straight from run lengths: no mask is ever drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline import rle

Size = tuple[int, int]


def shrink(texts: Sequence[str], size_hw: Size, small_hw: Size) -> list[bytes | None]:
    """Samples masks at every so-many-th row and column (nearest neighbour, pixel centres).

    Where a mask's value changes, the sampled mask's value changes at the next sampled pixel in
    column-major order; changes that meet at one pixel cancel in pairs. So the cost follows the
    number of runs, not of pixels, and all masks of a picture are done together.

    Args:
        texts: Compressed run-length strings.
        size_hw: Their height and width, pixels.
        small_hw: Height and width wanted, not larger.

    Returns:
        One compressed string a mask, None where no sampled pixel is inside.

    Raises:
        ValueError: A string is malformed, or a side would grow.
    """
    (height, width), (rows, columns) = size_hw, small_hw
    if not (0 < rows <= height and 0 < columns <= width):
        raise ValueError(f"cannot shrink {size_hw} to {small_hw}")
    if not texts:
        return []
    pixels = rows * columns
    stride = pixels + 1  # one number line for all masks, an interval each
    row_rank, column_rank = _rank(height, rows), _rank(width, columns)
    changes = []
    for index, text in enumerate(texts):
        column, row = np.divmod(np.cumsum(rle.expand(text, height * width))[:-1], height)
        sampled = column_rank[np.minimum(column + 1, width)] > column_rank[column]
        place = column_rank[column] * rows + np.where(sampled, row_rank[row], 0)
        changes.append(place + index * stride)
    place, times = np.unique(np.concatenate(changes), return_counts=True)
    place = place[(times % 2 == 1) & (place % stride < pixels)]
    mask_of = place // stride
    kept = np.unique(mask_of)
    bounds = np.concatenate((place, kept * stride, kept * stride + pixels))
    bounds.sort()
    per_mask = np.bincount(mask_of, minlength=len(texts))[kept] + 2
    ends = np.cumsum(per_mask) - 1
    lengths = np.delete(np.diff(bounds), ends[:-1])
    offset = np.concatenate(([0], np.cumsum(per_mask - 1)[:-1])).astype(np.intp)
    small: list[bytes | None] = [None] * len(texts)
    if len(kept):
        for index, text in zip(kept.tolist(), rle.compress(lengths, offset), strict=True):
            small[index] = text
    return small


def fit(size_hw: Size, side: int) -> Size:
    """Height and width with the longer side at most `side`, never enlarged, never 0."""
    scale = min(1.0, side / max(size_hw))
    height, width = (max(1, round(length * scale)) for length in size_hw)
    return height, width


def _rank(length: int, samples: int) -> rle.Ints:
    """How many sampled places lie before each of 0…length."""
    places = (2 * np.arange(samples) + 1) * length // (2 * samples)
    return np.searchsorted(places, np.arange(length + 1))
