import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_zoo import ZOO, runs_of
from skimage.measure import regionprops

import pipeline.measuring.intensity as intensity_module
from pipeline.measuring.intensity import measure_intensities

TYPES = ("uint8", "bool", "int8", "uint16", "int16", "uint32", "int64", "float32", "float64")


def check(stack, values):
    found = measure_intensities(runs_of(stack), values)
    for index, mask in enumerate(stack):
        region = regionprops(mask.astype(np.uint8), values)[0]
        exact = values[mask].astype(np.float64)
        assert found.mean[index] == pytest.approx(exact.mean(0), rel=1e-9, abs=1e-9)
        assert found.std[index] == pytest.approx(exact.std(0), rel=1e-6, abs=1e-6)
        assert found.min[index].tolist() == region.intensity_min.tolist()
        assert found.max[index].tolist() == region.intensity_max.tolist()
        if values.dtype.itemsize <= 2:
            assert found.mean[index] == pytest.approx(region.intensity_mean, rel=1e-6)
            assert found.std[index] == pytest.approx(region.intensity_std, rel=1e-6, abs=1e-6)


@settings(max_examples=80)
@given(st.data())
def test_overlapping_masks_on_any_picture(data):
    height, width = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    stack = [rng.random((height, width)) < rng.random() for _ in range(5)]
    stack = [mask for mask in stack if mask.any()] or [np.ones((height, width), bool)]
    kind = np.dtype(data.draw(st.sampled_from(TYPES)))
    channels = data.draw(st.integers(1, 5))
    values = (rng.normal(0, 1, (height, width, channels)) * 50_000).astype(kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intensity_module, "_BLOCK", data.draw(st.sampled_from([1, 30, 2_000_000])))
        check(stack, values)


def test_a_small_spread_on_a_bright_ground_is_not_lost():
    values = np.full((300, 300, 1), 65_530, np.uint16)
    values[::2] += 1
    mask = np.ones((300, 300), bool)
    found = measure_intensities(runs_of([mask]), values)
    assert found.std[0, 0] == 0.5
    assert found.mean[0, 0] == 65_530.5


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(ValueError, match="4x2"):
        measure_intensities(runs_of([ZOO["ring"]]), np.zeros((2, 4, 1), np.uint8))


class InFile:
    """Values that are read where they are sliced, as those of a whole slide are."""

    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.read = []

    def __getitem__(self, place):
        rows, columns, *rest = place
        assert rows == slice(None)
        self.read += [] if rest else [columns]
        return self.values[place]


@pytest.mark.parametrize("strip", [1, 7, 500])
def test_a_picture_in_a_file_is_read_once_in_strips(strip, monkeypatch):
    monkeypatch.setattr(intensity_module, "_BLOCK", 120)
    monkeypatch.setattr(intensity_module, "_STRIP", strip)
    rng = np.random.default_rng(3)
    values = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)
    stack = [rng.random((40, 60)) < 0.3 for _ in range(6)]
    for mask in stack:
        mask[:, 20:33] = False
    runs = runs_of(stack)
    lazy = InFile(values)
    found, whole = measure_intensities(runs, lazy), measure_intensities(runs, values)
    for name in ("mean", "std", "min", "max"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    ends = [place.stop for place in lazy.read]
    assert all(one.start >= end for one, end in zip(lazy.read[1:], ends, strict=False))
    assert all(place.stop - place.start < strip + 3 for place in lazy.read)
    grey = measure_intensities(runs, InFile(values), 1)
    np.testing.assert_array_equal(grey.mean, whole.mean[:, :1])
