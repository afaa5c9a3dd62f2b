from __future__ import annotations

import numpy as np
import pytest

from pipeline.images import stretch as module
from pipeline.images.stretch import histogram


@pytest.mark.parametrize("shape", [(1, 1), (40, 50, 3), (3, 700, 3), (1, 5000, 1)])
@pytest.mark.parametrize("at_once", [1 << 24, 1000, 7])
def test_it_counts_as_numpy_does(monkeypatch, shape, at_once):
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    expected = np.bincount(pixels.reshape(-1), minlength=256)
    np.testing.assert_array_equal(histogram(pixels), expected)
    np.testing.assert_array_equal(histogram(pixels[::-1, ::2]).sum(), pixels[:, ::2].size)
    inverted = histogram(pixels, lambda part: 255 - part)
    np.testing.assert_array_equal(inverted, expected[::-1])


def test_large_counts_are_exact():
    """Twenty million pixels of one value: more than a float32 can count."""
    pixels = np.broadcast_to(np.uint8(7), (4001, 5001))
    assert histogram(pixels)[7] == 4001 * 5001
