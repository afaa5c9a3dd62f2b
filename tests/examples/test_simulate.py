"""The renderer's truth must be the picture's truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from examples.simulate import MICROSCOPE, render_field


@pytest.fixture(scope="module")
def field():
    return render_field(7, nuclei=30)


def test_same_seed_same_bytes(field):
    again = render_field(7, nuclei=30)
    assert again.pixels.tobytes() == field.pixels.tobytes()
    assert again.label_map.tobytes() == field.label_map.tobytes()
    assert render_field(8, nuclei=30).pixels.tobytes() != field.pixels.tobytes()


@pytest.mark.parametrize("nuclei", [0, 1, 12, 30])
def test_holds_the_nuclei_that_were_asked_for(nuclei):
    field = render_field(3, nuclei=nuclei)
    assert field.nuclei == nuclei
    assert set(np.unique(field.label_map)) == set(range(nuclei + 1))


def test_every_nucleus_is_one_piece_of_plausible_size(field):
    for label in range(1, field.nuclei + 1):
        mask = field.label_map == label
        assert ndimage.label(mask)[1] == 1
        assert 40 < mask.sum() < 1500


def test_bright_where_labelled(field):
    inside, outside = field.label_map > 0, field.label_map == 0
    assert field.pixels[inside].mean() > 3 * field.pixels[outside].mean()
    means = ndimage.mean(field.pixels, field.label_map, range(1, field.nuclei + 1))
    assert min(means) > np.percentile(field.pixels[outside], 90)


def test_the_truth_lies_on_the_picture_and_not_beside_it(field):
    inside = field.label_map > 0
    contrast = field.pixels[inside].mean() - field.pixels[~inside].mean()
    for shift in ((3, 0), (-3, 0), (0, 3), (0, -3)):
        moved = np.roll(inside, shift, axis=(0, 1))
        assert field.pixels[moved].mean() - field.pixels[~moved].mean() < contrast


def touching_pairs(label_map):
    pairs = set()
    for a, b in ((label_map[1:], label_map[:-1]), (label_map[:, 1:], label_map[:, :-1])):
        different = (a != b) & (a > 0) & (b > 0)
        pairs |= {frozenset(pair) for pair in zip(a[different], b[different], strict=True)}
    return pairs


def test_some_nuclei_touch_and_only_where_asked(field):
    assert len(touching_pairs(field.label_map)) >= 3
    assert not touching_pairs(render_field(7, nuclei=20, touching=0).label_map)


def test_noise_grows_as_light_fades():
    def relative_noise(photons):
        optics = replace(MICROSCOPE, photons=photons, vignetting=0)
        pixels = render_field(5, nuclei=0, optics=optics).pixels.astype(float)
        return pixels.std() / (pixels.mean() - MICROSCOPE.offset * 255)

    assert relative_noise(20) > 1.5 * relative_noise(500)


def test_corners_are_darker_than_the_middle():
    optics = replace(MICROSCOPE, vignetting=0.8, photons=2000, bits=16)
    pixels = render_field(5, nuclei=0, optics=optics).pixels
    corners = [pixels[:32, :32], pixels[:32, -32:], pixels[-32:, :32], pixels[-32:, -32:]]
    assert max(corner.mean() for corner in corners) < pixels[112:144, 112:144].mean()


def test_16_bit_fields_use_the_wider_range():
    eight = render_field(4, nuclei=10)
    sixteen = render_field(4, nuclei=10, optics=replace(MICROSCOPE, bits=16))
    assert (eight.pixels.dtype, sixteen.pixels.dtype) == (np.uint8, np.uint16)
    assert np.array_equal(eight.label_map, sixteen.label_map)
    assert np.abs(sixteen.pixels / 257 - eight.pixels).max() <= 1


@pytest.mark.parametrize(
    "bad", [{"size_hw": (20, 256)}, {"nuclei": -1}, {"optics": replace(MICROSCOPE, bits=12)}]
)
def test_impossible_fields_are_refused(bad):
    with pytest.raises(ValueError, match="need sides"):
        render_field(1, **bad)
