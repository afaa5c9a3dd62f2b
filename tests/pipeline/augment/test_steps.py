import numpy as np
import pytest

from pipeline.augment.steps import recolour

BLACK = (0, 0, 0)


def picture(seed=0, size=(40, 50)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def done(pixels, step, **drawn):
    return recolour({"step": step, **drawn}, pixels, BLACK)


def test_ones_and_zeros_change_nothing():
    pixels = picture()
    for step in ("brightness", "contrast"):
        np.testing.assert_array_equal(done(pixels, step, factor=1.0), pixels)
    np.testing.assert_array_equal(done(pixels, "gamma", gamma=1.0), pixels)
    np.testing.assert_array_equal(done(pixels, "blur", sigma=0.0), pixels)
    np.testing.assert_array_equal(done(pixels, "noise", sigma=0.0, seed=1), pixels)
    np.testing.assert_allclose(done(pixels, "saturation", factor=1.0).astype(int), pixels, atol=1)
    np.testing.assert_allclose(done(pixels, "hue", angle=0.0).astype(int), pixels, atol=1)


def test_factors_mean_what_they_say():
    pixels = picture() // 3
    np.testing.assert_array_equal(done(pixels, "brightness", factor=2.0), pixels * 2)
    flat = done(pixels, "contrast", factor=0.0)
    grey = (pixels @ np.array([0.299, 0.587, 0.114])).mean()
    np.testing.assert_allclose(flat, grey, atol=0.6)
    plain = done(pixels, "saturation", factor=0.0)
    np.testing.assert_array_equal(plain[..., 0], plain[..., 1])
    np.testing.assert_array_equal(plain[..., 0], plain[..., 2])


@pytest.mark.parametrize("angle", [-120.0, 15.0, 90.0])
def test_hue_keeps_luma_and_comes_back(angle):
    dull = picture() // 4 + 96
    turned = done(dull, "hue", angle=angle)
    luma = np.array([0.213, 0.715, 0.072])
    np.testing.assert_allclose(turned @ luma, dull @ luma, atol=1.5)
    np.testing.assert_allclose(done(turned, "hue", angle=-angle).astype(int), dull, atol=3)
    assert np.abs(turned.astype(int) - dull).max() > 2


def test_noise_is_that_of_its_seed_in_any_bands(monkeypatch):
    grey = np.full((60, 50, 3), 128, np.uint8)
    one = done(grey, "noise", sigma=10.0, seed=3)
    assert (one.astype(float) - 128).std() == pytest.approx(10, abs=0.4)
    monkeypatch.setattr("pipeline.augment.steps._NOISE_ROWS", 350)
    np.testing.assert_array_equal(done(grey, "noise", sigma=10.0, seed=3), one)
    assert not np.array_equal(done(grey, "noise", sigma=10.0, seed=4), one)


def test_jpeg_keeps_red_red():
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    shown = done(red, "jpeg", quality=80).astype(int)
    np.testing.assert_allclose(shown, red, atol=6)


def test_an_unknown_step_is_refused():
    with pytest.raises(ValueError, match="no step that changes values"):
        done(picture(), "sharpen")
