from __future__ import annotations

import gc
import weakref

import numpy as np

from pipeline.tiling.grid import PerPicture


def test_a_picture_is_looked_at_once_and_not_kept():
    asked = []

    def mean(pixels: np.ndarray) -> float:
        asked.append(pixels.shape)
        return float(pixels.mean())

    remembered = PerPicture(mean)
    first, second = np.zeros((2, 3), np.uint8), np.full((4, 5), 9, np.uint8)
    assert [remembered(one) for one in (first, second, first, second)] == [0, 9, 0, 9]
    assert asked == [(2, 3), (4, 5)]
    alive = weakref.ref(first)
    del first
    gc.collect()
    assert alive() is None
    # An array that comes to lie in the same place is another picture.
    for value in range(50):
        assert remembered(np.full((2, 3), value, np.uint8)) == value
    assert remembered(second) == 9
    assert asked.count((4, 5)) == 1
