import numpy as np
import pytest

from pipeline.augment.warp import Bend, Linear, Warp


def linear(*rows):
    return Linear(np.array([*rows, (0, 0, 1)], float))


FLIP = linear((-1, 0, 39_999), (0, 1, 0))


def test_neighbouring_matrices_become_one_and_bends_stay():
    half = linear((0.5, 0, 0), (0, 0.5, 0))
    shift = linear((1, 0, 3), (0, 1, 0))
    bend = Bend(np.zeros((3, 3, 2), np.float32), (10, 10))
    warp = Warp.of([half, shift, bend, shift], (10, 10), (10, 10))
    assert [type(move) for move in warp.moves] == [Linear, Bend, Linear]
    point = warp.forward(np.array([[2.0, 2.0]]))
    np.testing.assert_allclose(point, [[2.0 / 0.5 - 6, 4.0]])


def test_pictures_longer_than_opencv_can_address():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40_000, 3), np.uint8)
    warp = Warp.of([FLIP], (3, 40_000), (3, 40_000))
    np.testing.assert_array_equal(warp.picture(pixels, (0, 0, 0)), pixels[:, ::-1])
    labels = pixels[..., 0].astype(np.int32)
    np.testing.assert_array_equal(warp.labels(labels, 0), labels[:, ::-1])


def test_a_tile_that_reaches_too_far_is_cut_up():
    """Shrunk fifty times: a tile of 1,024 shows more than OpenCV can address at once."""
    pixels = np.full((2, 60_000, 3), 90, np.uint8)
    shrink = linear((50, 0, 24.5), (0, 1, 0))
    warp = Warp.of([shrink], (2, 60_000), (2, 1200))
    np.testing.assert_array_equal(warp.picture(pixels, (0, 0, 0)), 90)
    ramp = np.broadcast_to(np.arange(60_000, dtype=np.int32), (2, 60_000))
    found = warp.labels(ramp, -1)[0]
    np.testing.assert_allclose(found, np.arange(1200) * 50 + 24.5, atol=0.6)


def test_shrinking_does_not_alias():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    quarter = linear((4, 0, 1.5), (0, 4, 1.5))
    shown = Warp.of([quarter], (64, 64), (16, 16)).picture(stripes, (0, 0, 0))
    assert abs(shown[4:-4, 4:-4].astype(int) - 127).max() < 12


def test_enlarging_draws_no_rim_and_outside_is_filled_like_labels():
    ones = np.full((8, 8, 3), 200, np.uint8)
    twice = Warp.of([linear((0.5, 0, -0.25), (0, 0.5, -0.25))], (8, 8), (16, 16))
    np.testing.assert_array_equal(twice.picture(ones, (0, 0, 0)), 200)
    beside = Warp.of([linear((1, 0, -3.4), (0, 1, 0))], (8, 8), (8, 8))
    shown = beside.picture(ones, (1, 2, 3))
    outside = beside.labels(np.ones((8, 8), np.int32), 0) == 0
    assert outside.any()
    np.testing.assert_array_equal(shown[outside], [[1, 2, 3]] * outside.sum())
    np.testing.assert_array_equal(shown[~outside], 200)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64])
def test_every_bit_of_a_label_is_copied(kind):
    """Also those that are not-a-number or denormal where four bytes are read as a float."""
    info = np.iinfo(kind)
    rng = np.random.default_rng(0)
    labels = rng.integers(info.min, info.max, (33, 47), kind, endpoint=True)
    labels[0, :3] = np.array([info.max, info.max - 1, 1], kind)
    warp = Warp.of([linear((0, 1, 0), (1, 0, 0))], (33, 47), (47, 33))
    found = warp.labels(labels, 0)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, labels.T)


def test_half_way_positions_take_every_row_once():
    labels = np.arange(10, dtype=np.int32)[None].repeat(2, 0)
    shifted = Warp.of([linear((1, 0, 0.5), (0, 1, 0))], (2, 10), (2, 9))
    np.testing.assert_array_equal(shifted.labels(labels, 0)[0], np.arange(1, 10))


def test_what_is_beyond_the_horizon_is_nothing():
    matrix = np.array([[1, 0, 0], [0, 1, 0], [0, -0.05, 1.0]])
    warp = Warp.of([Linear(matrix)], (40, 40), (40, 40))
    shown = warp.picture(np.full((40, 40, 3), 9, np.uint8), (1, 1, 1))
    assert (shown[21:] == 1).all()
    assert (shown[:5, :5] == 9).all()
    assert np.isfinite(warp.density()).all()
