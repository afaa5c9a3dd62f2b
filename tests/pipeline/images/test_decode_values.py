"""Values as the file holds them, for all that wants more than 8-bit RGB."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from pictures_encoded import decode, encoded, scene
from PIL import Image

from pipeline.images.decode import decode_values
from schemas.config.job import ImagesConfig
from schemas.records import ErrorCode, Failure

RNG = np.random.default_rng(3)
DEEP = RNG.integers(0, 65536, (12, 17, 6)).astype(np.uint16)


def values_of(data: bytes) -> Any:
    values = decode_values(data, ImagesConfig())
    assert not isinstance(values, Failure), values
    assert values.ndim == 3
    return values


def tiff(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def test_shallow_pictures_are_what_decoding_gives():
    for data in (encoded(scene(), "PNG"), encoded(scene(), "JPEG"), encoded(scene(), "TIFF")):
        assert (values_of(data) == decode(data).pixels).all()


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.uint32, np.float32])
def test_deep_grey_tiff(kind):
    grey = DEEP[..., 0].astype(kind)
    values = values_of(tiff(grey))
    assert values.dtype == kind
    assert (values[..., 0] == grey).all()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [2, 4, 5, 6])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_every_band_is_there(kind, bands, planar):
    many = DEEP[..., :bands].astype(kind)
    stored = many if planar == "contig" else np.moveaxis(many, -1, 0)
    data = tiff(stored, photometric="minisblack", planarconfig=planar)
    assert (values_of(data) == many).all()
    assert "bands" in decode(data).note


def test_a_fourth_band_that_is_no_alpha_is_kept():
    many = DEEP[..., :4].astype(np.uint8)
    data = tiff(many, photometric="rgb", extrasamples=("UNSPECIFIED",))
    assert (values_of(data) == many).all()
    assert (decode(data).pixels == many[..., :3]).all()
    assert decode(data).note == "first 3 of 4 bands"


def test_alpha_is_left_out():
    many = DEEP[..., :4]
    data = tiff(many, photometric="rgb", extrasamples=("UNASSALPHA",))
    assert (values_of(data) == many[..., :3]).all()
    png = cv2.imencode(".png", many)[1].tobytes()
    assert (values_of(png) == many[..., 2::-1]).all()


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_white_zero_is_turned_over(kind):
    grey = (DEEP[..., 0] // 2).astype(kind)
    values = values_of(tiff(grey, photometric="miniswhite"))[..., 0]
    assert values.dtype == kind
    assert (values.astype(np.float64) == (65535.0 if kind is np.uint16 else 0.0) - grey).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_with_any_number_of_bands(orientation):
    tags = [(274, "H", 1, orientation, True)]
    deep = values_of(tiff(DEEP, photometric="minisblack", planarconfig="contig", extratags=tags))
    exif = Image.Exif()
    exif[274] = orientation
    flat = (DEEP[..., :3] >> 8).astype(np.uint8)
    assert (deep[..., :3] >> 8 == decode(encoded(flat, "PNG", exif=exif)).pixels).all()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", ErrorCode.EMPTY_FILE),
        (b"text", ErrorCode.NOT_AN_IMAGE),
        (encoded(scene(), "PNG")[:200], ErrorCode.TRUNCATED),
    ],
)
def test_what_cannot_be_decoded_says_why(data, code):
    failure = decode_values(data, ImagesConfig())
    assert isinstance(failure, Failure)
    assert failure.code == code


def test_the_pixel_limit_holds():
    failure = decode_values(tiff(DEEP[..., 0]), ImagesConfig(max_pixels=100))
    assert isinstance(failure, Failure)
    assert failure.code == ErrorCode.TOO_LARGE
