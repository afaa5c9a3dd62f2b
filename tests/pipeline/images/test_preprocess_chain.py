import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.images.preprocess import Chain
from pipeline.images.stretch import stretch
from schemas.config.preprocess import PreprocessConfig

RNG = np.random.default_rng(2)
PIXELS = RNG.integers(0, 255, (40, 60, 3)).astype(np.uint8)
REFERENCE = RNG.integers(0, 90, (20, 20, 3)).astype(np.uint8)
STEPS = (
    {"step": "window", "low": 10, "high": 200},
    {"step": "percentile"},
    {"step": "auto_contrast"},
    {"step": "gamma", "gamma": 0.5},
    {"step": "clahe", "tiles": 2},
    {"step": "white_balance"},
    {"step": "match_histogram", "reference": "ref"},
    {"step": "median"},
    {"step": "gaussian"},
    {"step": "bilateral", "diameter": 3},
    {"step": "nlmeans", "search": 5, "patch": 3},
)


def chain(*steps, **options):
    config = PreprocessConfig.parse({"steps": list(steps)})
    return Chain(config.steps, {"ref": REFERENCE}, **options)


def test_nothing_to_do():
    stage = chain()(PIXELS)
    assert (stage.pixels == PIXELS).all()
    assert stage.placement is None


@settings(max_examples=25)
@given(st.lists(st.sampled_from(STEPS), max_size=4), st.integers(1, 6), st.booleans())
def test_any_chain_on_any_picture(steps, bands, deep):
    values = RNG.integers(0, 65535 if deep else 255, (23, 31, bands))
    values = values.astype(np.uint16 if deep else np.uint8)
    before = values.copy()
    found = chain(*steps)(values)
    assert (found.pixels.shape, found.pixels.dtype) == ((23, 31, 3), np.uint8)
    assert found.pixels.flags.c_contiguous
    assert (values == before).all()
    assert (chain(*steps)(values).pixels == found.pixels).all()


@settings(max_examples=25)
@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=4))
def test_a_chain_is_its_steps_one_after_the_other(steps):
    values = PIXELS
    for step in steps:
        values = chain(step)(values).pixels
    assert (chain(*steps)(PIXELS).pixels == values).all()


def test_the_order_counts():
    median, gamma = {"step": "median"}, {"step": "gamma", "gamma": 0.3}
    clahe = {"step": "clahe"}
    assert (chain(clahe, gamma)(PIXELS).pixels != chain(gamma, clahe)(PIXELS).pixels).any()
    assert (chain(median, gamma)(PIXELS).pixels == chain(gamma, median)(PIXELS).pixels).all()


def test_false_colour_and_windows_see_the_values_of_the_file():
    deep = RNG.integers(0, 4096, (20, 30, 6)).astype(np.uint16)
    bands = {"step": "bands", "choose": [5, 3, 1]}
    window = {"step": "window", "low": 0, "high": 4095}
    found = chain(bands, window)(deep).pixels
    assert np.abs(found - deep[..., [4, 2, 0]] / 4095 * 255).max() <= 0.5001
    grey = chain({"step": "bands", "choose": [6]}, window)(deep).pixels
    assert (grey[..., 0] == grey[..., 2]).all()
    with pytest.raises(ValueError, match="no band 7"):
        chain({"step": "bands", "choose": [7]})(deep)


@pytest.mark.parametrize("stretching", ["percentile", "full"])
def test_deep_values_are_stretched_where_8_bits_are_needed(stretching):
    deep = RNG.integers(500, 3000, (20, 30, 3)).astype(np.uint16)
    median = {"step": "median"}
    found = chain(median, stretching=stretching)(deep).pixels
    assert (found == chain(median)(stretch(deep, stretching)).pixels).all()


def test_a_window_after_8_bits_is_in_8_bits():
    found = chain({"step": "window", "low": 0, "high": 51})(PIXELS).pixels
    assert (found == np.minimum(PIXELS.astype(int) * 5, 255)).all()


def test_each_stage_for_the_preview():
    steps = [{"step": "gamma", "gamma": 0.5}, {"step": "resize", "size": 20}, {"step": "median"}]
    stages = list(chain(*steps).stages(PIXELS))
    assert [stage.pixels.shape[:2] for stage in stages] == [(40, 60), (40, 60), (20, 30), (20, 30)]
    assert (stages[0].pixels == PIXELS).all()
    assert stages[1].placement is None
    assert stages[3].placement == stages[2].placement
    assert stages[3].placement.picture_hw == (40, 60)
