"""The grey values that a picture is stretched between before the net sees it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.histogram import histogram

LOW_PERCENTILE = 1.0
HIGH_PERCENTILE = 99.8
LEAST_RANGE = 8.0
"""8-bit steps. A nearly flat picture is not stretched further: its noise would look like cells."""


def picture_range(pixels: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """The 1 % and 99.8 % values over all channels of a whole picture, from its histogram.

    Args:
        pixels: HxW or HxWxC, not empty.

    Returns:
        (low, high) with high ≥ low + 8.
    """
    count = np.cumsum(histogram(pixels))
    low, high = (
        float(np.searchsorted(count, count[-1] * percentile / 100))
        for percentile in (LOW_PERCENTILE, HIGH_PERCENTILE)
    )
    return low, max(high, low + LEAST_RANGE)


def sample_range(sample: npt.NDArray[np.float32]) -> tuple[float, float]:
    """`picture_range` of a sample of float pixels on the scale of 0…255."""
    low, high = np.percentile(sample, (LOW_PERCENTILE, HIGH_PERCENTILE))
    return float(low), float(max(high, low + LEAST_RANGE))
