import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.augment.chain import AugmentChain, replay
from schemas.config.augment import AugmentConfig

SIZE = (96, 128)

GEOMETRY = {
    "flip": {"horizontal": 1, "vertical": 0.5},
    "rotate": {"angle": [-180, 180]},
    "rotate_expand": {"step": "rotate", "angle": [-180, 180], "expand": True},
    "quarter": {"step": "rotate", "quarters": True, "expand": True},
    "crop": {"scale": [0.4, 0.9]},
    "resized_crop": {},
    "object_crop": {"context": [1.2, 3]},
    "scale": {"factor": [0.5, 2], "stretch": [0.8, 1.25]},
    "scale_expand": {"step": "scale", "expand": True},
    "shear": {"x": [-30, 30], "y": [-10, 10]},
    "elastic": {"magnitude": [0.02, 0.05]},
    "perspective": {"magnitude": [0.1, 0.3]},
}
COLOURS = {
    "brightness": {},
    "contrast": {},
    "saturation": {},
    "hue": {},
    "gamma": {},
    "noise": {},
    "blur": {},
    "jpeg": {},
    "cutout": {},
}


def step(name, table):
    return {"step": name, **table[name]}


def chain(*steps, **more):
    return AugmentChain(AugmentConfig.parse({"steps": list(steps), **more}))


def blobs(seed=0, size=SIZE):
    """A label map of smooth blobs: no hair, so that its edge is a small share of it."""
    noise = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    return (cv2.GaussianBlur(noise, (0, 0), 9) > 0).astype(np.int32)


def draw(*steps, seed=0, size=SIZE, boxes=((30, 20, 60, 50),), **more):
    return chain(*steps, **more).draw(
        np.random.default_rng(seed), size, boxes_xyxy=np.array(boxes, float)
    )


def near_edge(mask):
    """Pixels beside one of another value."""
    kernel = np.ones((5, 5), np.uint8)
    plane = mask.astype(np.uint8)
    return cv2.dilate(plane, kernel) != cv2.erode(plane, kernel)


@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize("seed", range(4))
def test_a_picture_that_is_its_mask_stays_its_mask(name, seed):
    found = draw(step(name, GEOMETRY), seed=seed)
    mask = blobs(seed)
    pixels = np.repeat((mask * 255).astype(np.uint8)[..., None], 3, 2)
    moved = found.labels(mask)
    shown = found.picture(pixels)[..., 0] > 127
    assert moved.shape == shown.shape == found.size_hw
    away = ~near_edge(moved)
    np.testing.assert_array_equal(shown[away], moved[away] == 1)
    assert away.mean() > 0.4


def test_flips_and_quarter_turns_are_exact():
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    mirrored = draw({"step": "flip", "horizontal": 1, "vertical": 1})
    np.testing.assert_array_equal(mirrored.picture(pixels), pixels[::-1, ::-1])
    for turns in range(-3, 4):
        turned = draw({"step": "rotate", "angle": 90 * turns, "expand": True})
        np.testing.assert_array_equal(turned.picture(pixels), np.rot90(pixels, turns))
        np.testing.assert_array_equal(turned.labels(blobs()), np.rot90(blobs(), turns))


@pytest.mark.parametrize("angle", [17.0, 45.0, -120.0])
def test_a_turn_and_its_inverse_are_nothing_at_all(angle):
    """Composed into one resampling: no pixel is blurred, none lost at the frame."""
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    both = draw({"step": "rotate", "angle": angle}, {"step": "rotate", "angle": -angle})
    assert len(both.stages) == 1
    np.testing.assert_allclose(both.picture(pixels).astype(int), pixels, atol=1)
    np.testing.assert_array_equal(both.labels(blobs()), blobs())


def test_neighbouring_geometry_is_one_resampling_and_colours_keep_their_place():
    names = ["flip", "rotate", "elastic", "scale"]
    steps = [step(name, GEOMETRY) for name in names]
    assert len(draw(*steps).stages) == 1
    mixed = draw(*steps[:2], step("blur", COLOURS), *steps[2:])
    assert [type(stage).__name__ for stage in mixed.stages] == ["Warp", "dict", "Warp"]


@pytest.mark.parametrize("name", COLOURS)
def test_values_change_and_labels_do_not(name):
    found = draw(step(name, COLOURS), seed=3)
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    before = pixels.copy()
    shown = found.picture(pixels)
    assert shown.dtype == np.uint8
    assert shown.shape == pixels.shape
    assert not np.array_equal(shown, pixels)
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(found.labels(blobs()), blobs())


def test_grey_has_no_colour_to_turn_or_spread():
    grey = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, 2)
    for one in ({"step": "hue", "angle": 90}, {"step": "saturation", "factor": 2}):
        shown = draw(one, size=(16, 16)).picture(grey)
        np.testing.assert_allclose(shown.astype(int), grey, atol=1)


def test_cutout_erases_labels_only_where_it_is_told_to():
    kept = draw({"step": "cutout", "count": 3, "size": 0.3})
    erased = draw({"step": "cutout", "count": 3, "size": 0.3, "labels": "erase"}, fill=9)
    ones = np.ones(SIZE, np.uint8)
    assert kept.labels(ones, 255).min() == kept.labels(ones, 255).max() == 1
    gone = erased.labels(ones, 255) == 255
    white = np.full((*SIZE, 3), 255, np.uint8)
    np.testing.assert_array_equal(erased.picture(white)[..., 0] == 9, gone)
    shares = erased.visible(erased.labels(ones.astype(np.int32)), np.array([ones.sum()]))
    assert shares[0] == pytest.approx(1 - gone.mean())


@pytest.mark.parametrize("name", ["rotate", "scale", "shear", "elastic", "perspective"])
def test_what_stays_in_the_frame_is_wholly_visible(name):
    mask = np.zeros((256, 256), np.int32)
    cv2.circle(mask, (127, 127), 30, 1, -1)
    for seed in range(5):
        found = draw(step(name, GEOMETRY), seed=seed, size=(256, 256))
        share = found.visible(found.labels(mask), np.array([mask.sum()]))
        assert share[0] == pytest.approx(1, abs=0.03)


def test_what_the_frame_cuts_is_counted_in_the_originals_pixels():
    mask = np.zeros((100, 200), np.int32)
    mask[20:60, 60:140] = 1
    mask[20:60, 150:190] = 2
    areas = np.array([3200, 1600])
    halves = replay([{"step": "crop", "box_xywh": [0, 0, 100, 100]}], (100, 200))
    np.testing.assert_allclose(halves.visible(halves.labels(mask), areas), [0.5, 0])
    enlarged = [{"step": "crop", "box_xywh": [0, 0, 100, 100], "size_hw": [400, 400]}]
    larger = replay(enlarged, (100, 200))
    np.testing.assert_allclose(larger.visible(larger.labels(mask), areas), [0.5, 0])


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3)])
def test_pictures_of_a_pixel_or_a_line_come_through(shape):
    steps = [step(name, GEOMETRY) for name in GEOMETRY if name in ("flip", "rotate", "elastic")]
    steps += [step(name, GEOMETRY) for name in ("crop", "resized_crop", "scale_expand", "shear")]
    steps += [step(name, COLOURS) for name in COLOURS]
    for seed in range(4):
        found = draw(*steps, seed=seed, size=shape, boxes=[])
        assert found.picture(np.zeros((*shape, 3), np.uint8)).shape[:2] == found.size_hw
        assert found.labels(np.ones(shape, np.uint8)).shape == found.size_hw


@pytest.mark.parametrize("seed", range(10))
def test_object_crop_holds_one_whole_object(seed):
    found = draw({"step": "object_crop", "context": [1, 3], "least": 1}, seed=seed)
    mask = np.zeros(SIZE, np.int32)
    mask[20:50, 30:60] = 1
    assert found.labels(mask).sum() == mask.sum()
    moved = draw({"step": "flip", "horizontal": 1}, {"step": "object_crop", "least": 1}, seed=seed)
    assert moved.labels(mask).sum() == mask.sum()
    assert draw({"step": "object_crop"}, boxes=[]).stages == ()


any_step = st.sampled_from(
    [{"step": name, "p": 0.8, **table[name]} for table in (GEOMETRY, COLOURS) for name in table]
)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(any_step, min_size=1, max_size=6), seed=st.integers(0, 2**32))
def test_any_chain_can_be_written_down_and_done_again(steps, seed):
    found = draw(*steps, seed=seed)
    again = replay(json.loads(json.dumps(found.parameters())), SIZE)
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    mask = blobs()
    assert again.size_hw == found.size_hw
    np.testing.assert_array_equal(again.picture(pixels), found.picture(pixels))
    moved = found.labels(mask)
    np.testing.assert_array_equal(again.labels(mask), moved)
    assert moved.dtype == mask.dtype
    assert set(np.unique(moved)) <= {0, 1}
    assert (found.visible(moved, np.array([mask.sum()])) >= 0).all()


def test_labels_of_any_integer_type_are_copied():
    values = np.random.default_rng(0).integers(0, 250, SIZE)
    found = draw({"step": "rotate", "angle": 30})
    expected = found.labels(values.astype(np.uint8), 255)
    for kind in (np.int16, np.uint16, np.int32, np.int64, np.uint32):
        moved = found.labels(values.astype(kind), 255)
        assert moved.dtype == kind
        np.testing.assert_array_equal(moved, expected)


def test_large_pictures_are_done_in_tiles_without_a_seam(monkeypatch):
    found = draw(step("rotate", GEOMETRY), step("elastic", GEOMETRY), seed=2)
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    whole, labels = found.picture(pixels), found.labels(blobs())
    density = found.density()
    monkeypatch.setattr("pipeline.augment.warp._TILE", 17)
    np.testing.assert_allclose(found.picture(pixels).astype(int), whole, atol=2)
    np.testing.assert_array_equal(found.labels(blobs()), labels)
    np.testing.assert_allclose(found.density(), density, rtol=1e-5)


def test_a_draw_refuses_another_size_and_a_chain_other_pictures():
    with pytest.raises(ValueError, match="drawn for"):
        draw({"step": "flip"}).labels(np.zeros((5, 5), np.uint8))
    with pytest.raises(ValueError, match="mosaic needs other pictures"):
        chain({"step": "mosaic"})
    with pytest.raises(ValueError, match="unknown step"):
        replay([{"step": "melt"}], (5, 5))
    with pytest.raises(ValueError, match="not the parameters"):
        replay([{"step": "rotate"}], (5, 5))


def test_the_default_chain_keeps_the_size_and_draws_the_same_for_the_same_seed():
    one, two = (
        AugmentChain(AugmentConfig()).draw(np.random.default_rng(4), SIZE) for _ in range(2)
    )
    assert one.parameters() == two.parameters()
    assert one.size_hw == SIZE
