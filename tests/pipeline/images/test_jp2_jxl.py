"""jp2_jxl.py: JPEG 2000 and JPEG XL of every depth against imagecodecs and Pillow."""

from __future__ import annotations

import io
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pictures_encoded import decode, encoded, fail, scene
from PIL import Image

from pipeline.images.decode import decode_values
from schemas.config.images import ImagesConfig
from schemas.records import ErrorCode

RNG = np.random.default_rng(2)
GREY16 = RNG.integers(0, 65536, (37, 52)).astype(np.uint16)


def write(kind: str, values: np.ndarray, **options: Any) -> bytes:
    if kind == "JPEG XL":
        return imagecodecs.jpegxl_encode(values, lossless=True, **options)
    return imagecodecs.jpeg2k_encode(values, level=0, reversible=True, **options)


@pytest.mark.parametrize("kind", ["JPEG 2000", "JPEG XL"])
def test_8_bits_come_back_exactly(kind):
    for pixels in (scene(), scene()[..., 0]):
        sample = decode(write(kind, np.ascontiguousarray(pixels)))
        assert sample.image_format == kind
        assert sample.original_hw == scene().shape[:2]
        expected = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
        np.testing.assert_array_equal(sample.pixels, expected)


@pytest.mark.parametrize("kind", ["JPEG 2000", "JPEG XL"])
def test_16_bits_are_values(kind):
    values = decode_values(write(kind, GREY16), ImagesConfig())
    np.testing.assert_array_equal(np.asarray(values)[..., 0], GREY16)


@pytest.mark.parametrize("kind", ["JPEG 2000", "JPEG XL"])
def test_alpha_is_dropped_and_noted(kind):
    rgba = np.dstack((scene(), np.full(scene().shape[:2], 90, np.uint8)))
    sample = decode(write(kind, rgba))
    np.testing.assert_array_equal(sample.pixels, scene())
    assert sample.note == "alpha dropped"


@pytest.mark.parametrize("bare", [False, True])
def test_jpeg_2000_as_pillow_writes_it(bare):
    data = encoded(scene(), "JPEG2000", no_jp2=bare)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode(data).pixels, expected)


@pytest.mark.parametrize("kind", ["JPEG 2000", "JPEG XL"])
def test_the_limit_holds_before_decoding(kind):
    data = write(kind, GREY16)
    assert fail(data, max_pixels=37 * 52 - 1).code is ErrorCode.TOO_LARGE
    decode(data, max_pixels=37 * 52)


@pytest.mark.parametrize("hw", [(8, 8), (37, 52), (256, 256), (300, 400), (2000, 3), (1, 2)])
@pytest.mark.parametrize("boxed", [False, True])
def test_sizes_of_jpeg_xl(hw, boxed):
    data = imagecodecs.jpegxl_encode(np.zeros(hw, np.uint8), usecontainer=boxed)
    assert fail(data, max_pixels=hw[0] * hw[1] - 1).message.startswith(f"{hw[1]} × {hw[0]} pixels")


@pytest.mark.parametrize("kind", ["JPEG 2000", "JPEG XL"])
@pytest.mark.parametrize("bits", range(1, 8))
def test_less_than_8_bits_fill_the_range(kind, bits):
    values = (GREY16 >> (16 - bits)).astype(np.uint8)
    if kind == "JPEG XL":
        files = [
            imagecodecs.jpegxl_encode(one, lossless=True, bitspersample=bits)
            for one in (values, np.stack((values, values)))
        ]
    else:
        files = [
            imagecodecs.jpeg2k_encode(values, level=0, bitspersample=bits, codecformat=one)
            for one in ("jp2", "j2k")
        ]
    for data in files:
        shown = decode(data).pixels[..., 0]
        np.testing.assert_array_equal(shown, np.rint(values * (255 / ((1 << bits) - 1))))


def box(kind: bytes, body: bytes) -> bytes:
    return (8 + len(body)).to_bytes(4, "big") + kind + body


def with_colors(values: np.ndarray, space: int, kinds: tuple[int, ...] = ()) -> bytes:
    """A JP2 whose header says what its bands are: `kinds` 0 for colour, 2 for alpha that colours
    were multiplied by."""
    data = imagecodecs.jpeg2k_encode(values, level=0, codecformat="jp2", mct=False)
    at = data.index(b"jp2h") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    inside = [box(b"ihdr", data[at + 16 : at + 30])]
    inside.append(box(b"colr", b"\1\0\0" + space.to_bytes(4, "big")))
    if kinds:
        rows = [(number, kind, 0 if kind else number + 1) for number, kind in enumerate(kinds)]
        body = b"".join(value.to_bytes(2, "big") for row in rows for value in row)
        inside.append(box(b"cdef", len(kinds).to_bytes(2, "big") + body))
    return data[:at] + box(b"jp2h", b"".join(inside)) + data[at + size :]


def test_colour_spaces_of_jpeg_2000():
    inks = np.asarray(Image.fromarray(scene()).convert("CMYK"))
    np.testing.assert_array_equal(decode(with_colors(inks, 12)).pixels, scene())
    np.testing.assert_array_equal(decode(with_colors(scene(), 16)).pixels, scene())
    failure = fail(with_colors(scene(), 14))
    assert (failure.code, "CIELAB" in failure.message) == (ErrorCode.UNSUPPORTED, True)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_premultiplied_alpha_of_jpeg_2000(kind):
    most = np.iinfo(kind).max
    plain = (scene().astype(np.int64) * most // 255).astype(kind)
    alpha = np.full((*plain.shape[:2], 1), most // 3, kind)
    dark = (plain.astype(np.int64) // 3).astype(kind)
    found = decode(with_colors(np.dstack((dark, alpha)), 16, (0, 0, 0, 2)))
    assert found.note == "alpha dropped"
    whole = decode(with_colors(plain, 16)).pixels
    assert np.abs(found.pixels.astype(int) - whole).max() <= 3


def test_a_page_that_is_not_there():
    for kind in ("JPEG 2000", "JPEG XL"):
        assert fail(write(kind, GREY16), page=2).code is ErrorCode.UNSUPPORTED


@pytest.mark.parametrize("kind", ["JPEG 2000", "JPEG XL"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
def test_cut_files_are_no_pictures(kind, share):
    data = write(kind, GREY16)
    failure = fail(data[: int(len(data) * share)])
    assert failure.code in (ErrorCode.TRUNCATED, ErrorCode.DECODE_ERROR)


def test_frames_of_jpeg_xl():
    frames = np.stack([np.full((16, 20, 3), shade, np.uint8) for shade in (10, 200)])
    data = imagecodecs.jpegxl_encode(frames, lossless=True, photometric="rgb")
    assert decode(data).note == "first of 2 frames"
    np.testing.assert_array_equal(decode(data, page=2).pixels, frames[1])
