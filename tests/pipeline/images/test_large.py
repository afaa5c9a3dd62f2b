"""large.py: pixels that stay in the file are those that decoding gives."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from pictures_encoded import RECORD
from slides import COLOR, written

from pipeline.images import large, memory
from pipeline.images.decode import decode_image
from pipeline.images.large import SlidePixels, open_image, shrunk
from schemas.config.images import ImagesConfig
from schemas.records import Failure, Sample


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch):
    monkeypatch.setattr(large, "LARGE", 1)


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (COLOR, {"tile": None}),
        (COLOR.astype(np.uint16), {}),
        (np.moveaxis(COLOR, -1, 0), {"planarconfig": "separate"}),
        (COLOR, {"extratags": [(274, "H", 1, 6, True)]}),
        (COLOR[..., 0], {"photometric": "miniswhite"}),
        (np.stack((COLOR, COLOR)), {}),
    ],
)
def test_what_is_no_plain_image_of_tiles_is_decoded(values, options):
    found = open_image(written(values, **options), RECORD, ImagesConfig())
    assert isinstance(found, Sample)
    assert isinstance(found.pixels, np.ndarray)


def test_what_is_damaged_is_left_to_the_decoder():
    data = written(COLOR, compression="zlib")
    for broken in (data[: len(data) // 2], b"II*\0nothing"):
        assert open_image(broken, RECORD, ImagesConfig()) == decode_image(
            broken, RECORD, ImagesConfig()
        )


def test_a_small_image_is_decoded_at_once(monkeypatch):
    monkeypatch.setattr(large, "LARGE", COLOR.shape[0] * COLOR.shape[1] + 1)
    found = open_image(written(COLOR), RECORD, ImagesConfig())
    assert isinstance(found, Sample)
    assert isinstance(found.pixels, np.ndarray)


def test_a_side_that_fits_a_tile_is_decoded_at_once(monkeypatch):
    data, side = written(COLOR), max(COLOR.shape)
    for beyond, kind in ((side - 1, SlidePixels), (side, np.ndarray)):
        found = open_image(data, RECORD, ImagesConfig(), beyond=beyond)
        assert isinstance(found, Sample)
        assert isinstance(found.pixels, kind)
    monkeypatch.setattr(memory, "worker_memory", lambda: 4 * 20 * COLOR[..., 0].size)
    for beyond, kind in ((side - 1, Sample), (side, Failure)):
        assert isinstance(open_image(data, RECORD, ImagesConfig(), beyond=beyond), kind)


@pytest.mark.parametrize("band", [1, 700, 1 << 22])
@pytest.mark.parametrize("hw", [(11, 17), (40, 60), (132, 204), (500, 500)])
def test_it_shrinks_by_bands(band, hw, monkeypatch):
    monkeypatch.setattr(large, "_BAND", band)
    small = shrunk(SlidePixels(written(COLOR), ImagesConfig()), hw)
    factor = max(1, min(132 // hw[0], 204 // hw[1]))
    assert abs(small.shape[0] - 132 // factor) <= 1
    expected = cv2.resize(COLOR, small.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - expected).mean() < 3
