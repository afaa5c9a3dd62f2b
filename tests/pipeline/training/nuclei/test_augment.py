import numpy as np
import pytest

from pipeline.training.nuclei.augment import (
    Geometry,
    Intensity,
    draw_geometry,
    draw_intensity,
    recolour_crop,
    source_grid,
    warp,
)


def picture(height=40, width=40):
    return np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)


def middle(pixels):
    return ((pixels.shape[1] - 1) / 2, (pixels.shape[0] - 1) / 2)


def apply(pixels, geometry, *, nearest=False):
    grid = source_grid(geometry, center_xy=middle(pixels), size_hw=pixels.shape[:2])
    return warp(pixels, grid, nearest=nearest)


@pytest.mark.parametrize("shape", [(40, 40), (31, 50)])
def test_the_default_geometry_changes_nothing(shape):
    pixels = picture(*shape)
    np.testing.assert_array_equal(apply(pixels, Geometry()), pixels)


def test_flips_and_quarter_turns_are_exact():
    pixels = picture()
    np.testing.assert_array_equal(apply(pixels, Geometry(flip=True)), pixels[:, ::-1])
    for turns in range(4):
        turned = apply(pixels, Geometry(angle=turns * np.pi / 2))
        np.testing.assert_array_equal(turned, np.rot90(pixels, turns))


def test_image_and_mask_move_together():
    rng = np.random.default_rng(5)
    label_map = np.zeros((200, 200), np.uint16)
    label_map[60:120, 70:140] = 300
    pixels = np.where(label_map > 0, 255, 0).astype(np.uint8)
    for _ in range(20):
        geometry = draw_geometry(rng)
        moved = apply(label_map, geometry, nearest=True)
        seen = apply(pixels, geometry) > 127
        assert set(np.unique(moved)) <= {0, 300}
        union = (seen | (moved > 0)).sum()
        assert (seen & (moved > 0)).sum() >= 0.97 * union


def test_zoom_enlarges():
    label_map = np.zeros((101, 101), np.uint16)
    label_map[40:61, 40:61] = 1
    area = (apply(label_map, Geometry(zoom=2.0), nearest=True) > 0).sum()
    assert area == pytest.approx(4 * 21 * 21, rel=0.1)


def test_equal_seeds_draw_equal_changes():
    pixels, sample = np.float32(picture() / 255), np.float32(picture() / 255).reshape(-1, 3)
    results = []
    for _ in range(2):
        rng = np.random.default_rng(9)
        geometry, intensity = draw_geometry(rng), draw_intensity(rng)
        grid = source_grid(geometry, center_xy=(20, 20), size_hw=(32, 32))
        results.append(recolour_crop(warp(pixels, grid), sample, intensity)[0])
    np.testing.assert_array_equal(results[0], results[1])
    other = np.random.default_rng(10)
    assert draw_geometry(other) != draw_geometry(np.random.default_rng(9))


def test_the_default_intensity_changes_nothing():
    pixels = picture()
    stretched = np.float32(pixels / 255)
    out, sample = recolour_crop(stretched, stretched.reshape(-1, 3), Intensity())
    np.testing.assert_array_equal(out, pixels)
    np.testing.assert_allclose(sample, pixels.reshape(-1, 3), atol=1e-3)


def test_the_sample_goes_through_the_same_colours_as_the_picture():
    pixels = np.float32(picture() / 255)
    rng = np.random.default_rng(2)
    intensity = Intensity(
        gamma=1.7,
        mix=rng.dirichlet((1, 1, 1), 3).astype(np.float32),
        dark_bright=np.float32([[0.9, 0.8, 0.9], [0.2, 0.1, 0.5]]),
        display=(20.0, 200.0),
    )
    out, sample = recolour_crop(pixels, pixels.reshape(-1, 3), intensity)
    np.testing.assert_allclose(out.reshape(-1, 3), sample, atol=0.51)


def test_any_draw_gives_a_picture():
    pixels = np.float32(picture(64, 48) / 255)
    for seed in range(60):
        intensity = draw_intensity(np.random.default_rng(seed), recolour=0.5)
        out, sample = recolour_crop(pixels, pixels.reshape(-1, 3)[:50], intensity)
        assert out.shape == (64, 48, 3)
        assert out.dtype == np.uint8
        assert np.isfinite(sample).all()
