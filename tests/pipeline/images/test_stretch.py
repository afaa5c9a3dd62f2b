"""stretch.py: deep values to 8 bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.images.stretch import stretch


def test_full_range_of_16_bits():
    values = np.array([[0, 128, 257, 32768, 65535]], np.uint16)
    assert stretch(values, "full").tolist() == [[0, 0, 1, 128, 255]]
    signed = np.array([[-32768, 0, 32767]], np.int16)
    assert stretch(signed, "full").tolist() == [[0, 128, 255]]


def test_percentiles_ignore_a_hot_pixel():
    values = np.linspace(1000, 3000, 10_000).astype(np.uint16).reshape(100, 100)
    values[50, 50] = 65535
    result = stretch(values, "percentile")
    assert result[0, 0] == 0
    assert result[99, 99] == 255
    assert abs(int(result[49, 99]) - 127) <= 1
    full = stretch(values, "full")
    assert full.max() == 255
    assert full[99, 99] < 13


def test_percentiles_agree_with_numpy():
    values = np.random.default_rng(0).gamma(2, 900, (200, 300)).astype(np.uint16)
    low, high = np.quantile(values, (0.001, 0.999), method="inverted_cdf").astype(int)
    expected = np.rint((np.clip(values, low, high) - low) * (255 / (high - low)))
    np.testing.assert_array_equal(stretch(values, "percentile"), expected)


def test_all_channels_share_one_map():
    values = np.zeros((100, 100, 3), np.uint16)
    values[..., 0] = np.linspace(0, 4000, 10_000).reshape(100, 100)
    values[..., 1] = values[..., 0] // 2
    result = stretch(values, "percentile").astype(int)
    assert np.abs(result[..., 0] - 2 * result[..., 1]).max() <= 3


@pytest.mark.parametrize("mode", ["percentile", "full"])
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint32, np.float32, np.float64, ">u2"])
def test_a_picture_of_one_value_does_not_divide_by_zero(mode, dtype):
    result = stretch(np.full((4, 5), 700, dtype), mode)
    assert result.dtype == np.uint8
    assert len(np.unique(result)) == 1


def test_a_few_bright_pixels_on_flat_ground_stay_visible():
    """Both percentiles fall on the ground: the extremes take over."""
    values = np.full((100, 100), 500, np.uint16)
    values[0, :5] = 900
    assert stretch(values, "percentile")[0, :6].tolist() == [255] * 5 + [0]
    assert stretch(values.astype(np.float32), "percentile")[0, :6].tolist() == [255] * 5 + [0]


def test_floats():
    unit = np.array([[0.0, 0.25, 0.5]], np.float32)
    assert stretch(unit, "full").tolist() == [[0, 64, 128]]
    wide = np.array([[-10.0, 0.0, 10.0]], np.float32)
    assert stretch(wide, "full").tolist() == [[0, 128, 255]]
    broken = np.array([[np.nan, 0.0, 1.0, np.inf, -np.inf]], np.float32)
    assert stretch(broken, "full").tolist() == [[0, 0, 255, 255, 0]]
    assert stretch(np.full((2, 2), np.nan), "percentile").tolist() == [[0, 0], [0, 0]]


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.uint16, np.int16, np.int32, np.float32]),
        hnp.array_shapes(min_dims=2, max_dims=3, max_side=9),
    ),
    st.sampled_from(["percentile", "full"]),
)
def test_order_is_kept_and_nothing_warns(values, mode):
    result = stretch(values, mode)
    assert result.shape == values.shape
    finite = np.isfinite(values)
    order = np.argsort(values[finite], kind="stable")
    assert (np.diff(result[finite][order].astype(int)) >= 0).all()
