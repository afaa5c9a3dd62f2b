import numpy as np
import pytest
from skimage.exposure import adjust_gamma, match_histograms

from pipeline.images import filters
from schemas.config.preprocess import (
    AutoContrast,
    Bands,
    Clahe,
    Gamma,
    Percentile,
    WhiteBalance,
    Window,
)

RNG = np.random.default_rng(5)
PIXELS = RNG.integers(20, 120, (40, 50, 3)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (30, 40, 6)).astype(np.uint16)


def test_bands_are_counted_from_one():
    found = filters.choose_bands(DEEP, Bands(step="bands", choose=(4, 3, 2)))
    assert (found == DEEP[..., [3, 2, 1]]).all()
    assert filters.choose_bands(DEEP, Bands(step="bands", choose=(6,))).shape == (30, 40, 1)
    with pytest.raises(ValueError, match="there is no band 7, the picture has 6"):
        filters.choose_bands(DEEP, Bands(step="bands", choose=(1, 7, 2)))


def test_a_window_does_not_depend_on_the_picture():
    step = Window(step="window", low=-100, high=300)
    values = np.array([[-1000, -100, 0, 100, 300, 3000]], np.int16)[..., None]
    assert filters.apply_window(values, step).ravel().tolist() == [0, 0, 64, 128, 255, 255]
    real = np.array([[np.nan, np.inf, -np.inf, 100]], np.float32)[..., None]
    assert filters.apply_window(real, step).ravel().tolist() == [0, 255, 0, 128]


def test_percentiles():
    step = Percentile(step="percentile", low=10, high=90)
    found = filters.stretch_percentiles(DEEP[..., :3], step)
    low, high = np.percentile(DEEP[..., :3], (10, 90))
    expected = np.rint((np.clip(DEEP[..., :3], low, high) - low) * 255 / (high - low))
    assert np.abs(found - expected).max() <= 1
    cast = DEEP[..., :3] // np.array([1, 2, 4], np.uint16)
    together = filters.stretch_percentiles(cast, step)
    apart = filters.stretch_percentiles(cast, step.model_copy(update={"per_channel": True}))
    assert together.max(axis=(0, 1)).tolist() != [255, 255, 255]
    assert apart.max(axis=(0, 1)).tolist() == [255, 255, 255]
    assert apart.min(axis=(0, 1)).tolist() == [0, 0, 0]


def test_a_picture_of_one_value_becomes_black():
    flat = np.full((5, 5, 3), 77, np.uint8)
    assert not filters.stretch_percentiles(flat, Percentile(step="percentile")).any()
    assert not filters.auto_contrast(flat, AutoContrast(step="auto_contrast")).any()
    nothing = np.full((5, 5, 1), np.nan, np.float32)
    assert not filters.stretch_percentiles(nothing, Percentile(step="percentile")).any()


def test_a_picture_whose_percentiles_meet_keeps_its_extremes():
    mostly = np.zeros((20, 20, 1), np.uint16)
    mostly[0, 0] = 900
    found = filters.stretch_percentiles(mostly, Percentile(step="percentile"))
    assert (found.max(), found.min()) == (255, 0)


def test_auto_contrast_uses_the_whole_range_in_each_channel():
    found = filters.auto_contrast(PIXELS, AutoContrast(step="auto_contrast"))
    assert found.min(axis=(0, 1)).tolist() == [0, 0, 0]
    assert found.max(axis=(0, 1)).tolist() == [255, 255, 255]
    hot = PIXELS.copy()
    hot[0, 0] = 255  # a cut of some percent forgets one hot pixel
    cut = filters.auto_contrast(hot, AutoContrast(step="auto_contrast", cutoff=1))
    assert np.mean(cut == 255) > 0.005


@pytest.mark.parametrize("gamma", [0.4, 1.0, 2.2])
def test_gamma_is_skimages(gamma):
    found = filters.apply_gamma(PIXELS, Gamma(step="gamma", gamma=gamma))
    expected = adjust_gamma(PIXELS, gamma)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_clahe_raises_local_contrast_and_keeps_hues():
    dim = np.zeros((64, 64, 3), np.uint8)
    dim[:] = (60, 40, 20)
    dim[::2] = (66, 44, 22)
    found = filters.apply_clahe(dim, Clahe(step="clahe", clip=4, tiles=2)).astype(int)
    assert found[1::2].mean() + 6 < found[::2].mean() or found.std() > dim.std() * 1.5
    assert (found[..., 0] >= found[..., 1]).all()
    assert (found[..., 1] >= found[..., 2]).all()


def test_matching_is_skimages():
    reference = RNG.integers(100, 250, (20, 30, 3)).astype(np.uint8)
    found = filters.match_reference(PIXELS, reference)
    expected = match_histograms(PIXELS, reference, channel_axis=-1)
    assert np.abs(found - expected).max() <= 0.51
    assert abs(found.mean() - reference.mean()) < 2


def test_white_balance_takes_a_cast_off():
    cast = np.clip(PIXELS * np.array([1.4, 1.0, 0.6]), 0, 255).astype(np.uint8)
    grey = filters.balance_white(cast, WhiteBalance(step="white_balance"))
    means = grey.reshape(-1, 3).mean(0)
    assert np.ptp(means) < 2
    white = filters.balance_white(cast, WhiteBalance(step="white_balance", method="white_patch"))
    assert np.percentile(white.reshape(-1, 3), 99, axis=0).min() >= 253
    black = np.zeros((4, 4, 3), np.uint8)
    assert not filters.balance_white(black, WhiteBalance(step="white_balance")).any()
