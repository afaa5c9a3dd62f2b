"""Weights of categories by how often they occur."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.training.categories import count_pixels, numbered_table, weights_of

TABLE = numbered_table({1, 2, 3})
MAPS = [np.array([[0, 0, 0, 1, -1]], np.int16), np.array([[0, 0, 0, 0]], np.int16)]


def test_pixels_are_counted_without_the_ignored():
    pixels, around = count_pixels(MAPS, 3)
    assert pixels.tolist() == [7, 1, 0]
    assert around.tolist() == [8, 4, 0]


def test_the_rules():
    counts = count_pixels(MAPS, 3)
    assert weights_of("none", TABLE, *counts, most=10) == (1, 1, 1)
    inverse = weights_of("inverse-frequency", TABLE, *counts, most=10)
    assert inverse == pytest.approx((8 / 14, 4, 1), abs=1e-6)
    assert np.dot(inverse, counts[0]) == pytest.approx(counts[0].sum(), abs=1e-4)
    shares = np.array([7 / 8, 1 / 4])
    median = weights_of("median-frequency", TABLE, *counts, most=10)
    assert median[:2] == pytest.approx(np.median(shares) / shares, abs=1e-6)
    assert max(weights_of("inverse-frequency", TABLE, *counts, most=1.5)) == 1.5


def test_a_table_of_weights_names_categories():
    counts = count_pixels(MAPS, 3)
    assert weights_of({"category 2": 5}, TABLE, *counts, most=2) == (1, 5, 1)
    with pytest.raises(ValueError, match="did you mean 'category 2'"):
        weights_of({"categori 2": 5}, TABLE, *counts, most=2)
