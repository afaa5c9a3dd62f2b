import numpy as np
import pytest

from pipeline.images import filters
from schemas.config.preprocess import Bilateral, Gaussian, Median, NonLocalMeans

RNG = np.random.default_rng(8)
CLEAN = np.full((48, 60, 3), 60, np.uint8)
CLEAN[:, 30:] = (200, 180, 90)
NOISY = np.clip(CLEAN + RNG.normal(0, 12, CLEAN.shape), 0, 255).astype(np.uint8)

STEPS = {
    "median": (filters.median, Median(step="median", size=5)),
    "gaussian": (filters.gaussian, Gaussian(step="gaussian", sigma=1.2)),
    "bilateral": (filters.bilateral, Bilateral(step="bilateral")),
    "nlmeans": (filters.non_local_means, NonLocalMeans(step="nlmeans", strength=12)),
}


def distance(a, b):
    return float(np.sqrt(np.mean((a.astype(float) - b) ** 2)))


@pytest.mark.parametrize("name", STEPS)
def test_less_noise_and_an_unchanged_input(name):
    act, step = STEPS[name]
    before = NOISY.copy()
    found = act(NOISY, step)
    assert (before == NOISY).all()
    assert (found.dtype, found.shape) == (np.uint8, NOISY.shape)
    away = slice(None), np.r_[0:24, 36:60]
    assert distance(found[away], CLEAN[away]) < 0.7 * distance(NOISY[away], CLEAN[away])


@pytest.mark.parametrize("name", ["median", "bilateral"])
def test_edges_stay(name):
    act, step = STEPS[name]
    found = act(CLEAN, step).astype(int)
    assert np.abs(found - CLEAN).max() <= 2


def test_a_median_takes_single_pixels_away():
    salted = CLEAN.copy()
    salted[10, 10] = 255
    salted[20, 40] = 0
    assert (filters.median(salted, Median(step="median")) == CLEAN).all()
