"""images.py: every format and pixel type, orientation, limits, and bytes that are no picture."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures_encoded import RECORD, decode, encoded, fail, scene
from PIL import Image, ImageOps

from pipeline.images.decode import decode_image
from schemas.config.job import ImagesConfig
from schemas.records import ErrorCode, Failure, Sample

# Pillow remarks on damaged metadata; the decoders silence that, but pytest resets their filter.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"),
    "JPEG": ("1", "L", "RGB", "CMYK"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "GIF": ("1", "L", "LA", "P", "RGB", "RGBA"),
    "WEBP": ("L", "P", "RGB", "RGBA"),
}
"""Pillow's modes that it writes to each format."""

LOSSLESS = [
    ("PNG", {}),
    ("WEBP", {"lossless": True}),
    ("TIFF", {}),
    ("BMP", {}),
]
ALL = [("JPEG", {"quality": 95}), *LOSSLESS, ("GIF", {}), ("AVIF", {"speed": 10})]


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
def test_lossless_formats_come_back_exactly(kind, options):
    sample = decode(encoded(scene(), kind, **options))
    np.testing.assert_array_equal(sample.pixels, scene())
    assert sample.image_format == kind
    assert sample.original_hw == (48, 65)
    assert (sample.orientation, sample.note) == (1, "")


@pytest.mark.parametrize(("kind", "options"), ALL)
def test_every_format_equals_pillow(kind, options):
    data = encoded(scene(), kind, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode(data).pixels, expected)


@pytest.mark.parametrize(
    ("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes]
)
def test_every_mode_a_format_can_hold(kind, mode):
    image = Image.fromarray(scene())
    if mode == "I;16":
        image = Image.fromarray(scene()[..., 0].astype(np.uint16) * 257)
    data = encoded(image if mode == "I;16" else image.convert(mode), kind)
    sample = decode(data, stretch_16bit="full")
    stored = Image.open(io.BytesIO(data))
    if stored.mode.startswith("I"):
        expected = np.repeat((np.asarray(stored) // 257).astype(np.uint8)[..., None], 3, axis=2)
    else:
        expected = np.asarray(stored.convert("RGB"))
    assert np.abs(sample.pixels.astype(int) - expected).max() <= 1


def test_transparent_pixels_keep_their_stored_colours_and_it_is_noted():
    rgba = np.dstack((scene(), np.full(scene().shape[:2], 255, np.uint8)))
    opaque = decode(encoded(rgba, "PNG"))
    assert opaque.note == ""
    rgba[10:20, 10:20, 3] = 0
    holed = decode(encoded(rgba, "PNG"))
    assert holed.note == "alpha dropped"
    np.testing.assert_array_equal(holed.pixels, opaque.pixels)


def test_a_palette_with_a_transparent_entry():
    image = Image.fromarray(scene()).quantize(16)
    sample = decode(encoded(image, "PNG", transparency=3))
    np.testing.assert_array_equal(sample.pixels, np.asarray(image.convert("RGB")))
    assert sample.note == "alpha dropped"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "options"), [*ALL[:4], ALL[-1]])
def test_orientation_equals_exif_transpose(kind, options, orientation):
    data = encoded(scene(), kind, exif=exif(orientation), **options)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    sample = decode(data)
    np.testing.assert_array_equal(sample.pixels, np.asarray(expected))
    assert sample.original_hw == (expected.height, expected.width)
    assert sample.orientation == orientation


def test_orientation_shows_the_scene_upright():
    """Not against a library: the block in the top left corner must end there."""
    sideways = np.rot90(scene(), 1)  # the camera was turned: 6 says "rotate by 90° clockwise"
    sample = decode(encoded(np.ascontiguousarray(sideways), "PNG", exif=exif(6)))
    np.testing.assert_array_equal(sample.pixels, scene())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "block",
    [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\1" * 9],
    ids=["empty", "offset outside", "too many entries"],
)
def test_a_broken_exif_block_costs_nothing(kind, block):
    sample = decode(encoded(scene(), kind, exif=block))
    assert sample.orientation == 1
    assert sample.original_hw == (48, 65)


def test_an_orientation_that_does_not_exist_is_upright():
    assert decode(encoded(scene(), "PNG", exif=exif(9))).orientation == 1


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animations_give_their_first_frame(kind):
    frames = [Image.fromarray(np.roll(scene(), shift, axis=1)) for shift in (0, 9, 18)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    sample = decode(data)
    assert sample.note == "first of 3 frames"
    expected = Image.open(io.BytesIO(data)).convert("RGB")
    np.testing.assert_array_equal(sample.pixels, np.asarray(expected))


def test_interlaced_png():
    data = cv2.imencode(".png", scene()[..., ::-1])[1].tobytes()
    assert decode(data).pixels.tolist() == scene().tolist()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png(channels):
    deep = np.random.default_rng(0).integers(0, 65536, (20, 30, 4), dtype=np.uint16)
    deep[..., 3] = 65535
    data = png_16(deep[..., [0, 3]] if channels == 2 else deep[..., :channels])
    sample = decode(data, stretch_16bit="full")
    grey = channels <= 2
    expected = np.repeat(deep[..., :1], 3, 2) if grey else deep[..., :3]
    np.testing.assert_array_equal(sample.pixels, np.rint(expected / 257))
    assert sample.note == ""


def png_16(deep: np.ndarray) -> bytes:
    """A 16-bit PNG written by hand, so that no library decides what it may hold."""
    height, width, channels = deep.shape
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = deep.astype(">u2").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    return png_file(struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0), raw)


def png_file(header: bytes, raw: bytes) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_the_pixel_limit_holds_before_decoding():
    bomb = png_file(struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0), b"\0" * 1000)
    failure = fail(bomb)
    assert failure.code is ErrorCode.TOO_LARGE
    assert failure.message.startswith("3600 MP needs about 80 GB, this worker may use ")
    for kind, options in ALL:
        data = encoded(scene(), kind, **options)
        assert fail(data, max_pixels=48 * 65 - 1).code is ErrorCode.TOO_LARGE, kind
        assert decode(data, max_pixels=48 * 65).original_hw == (48, 65)


def test_the_limit_is_ours_not_pillows():
    """Pillow by itself warns of 90 megapixels, however few bytes they are."""
    data = encoded(Image.new("1", (10_000, 9_000)), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fail(data, max_pixels=89_999_999).code is ErrorCode.TOO_LARGE
        assert decode(data, max_pixels=90_000_000).original_hw == (9_000, 10_000)


@pytest.mark.parametrize(("kind", "options"), [*ALL[:5], ("GIF", {})])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_cut_file_is_truncated(kind, options, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(noise, kind, **options)
    assert fail(data[: int(len(data) * share)]).code is ErrorCode.TRUNCATED


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_trailing_bytes_are_ignored(kind):
    data = encoded(scene(), kind)
    np.testing.assert_array_equal(decode(data + b"tail" * 50).pixels, decode(data).pixels)


def test_corrupt_pixels_are_an_error():
    data = bytearray(encoded(scene(), "PNG"))
    start = data.index(b"IDAT") + 4
    data[start + 2 : start + 60] = b"\xff" * 58
    assert fail(bytes(data)).code is ErrorCode.DECODE_ERROR


def test_what_is_no_image_says_how_it_starts():
    failure = fail(b"<!DOCTYPE html><title>404</title>")
    assert failure == Failure(ErrorCode.NOT_AN_IMAGE, "not an image: starts with b'<!DOCTYPE'")
    assert fail(b"%PDF-1.7\n").code is ErrorCode.NOT_AN_IMAGE
    assert fail(b"\x00").code is ErrorCode.NOT_AN_IMAGE
    assert fail(b"").code is ErrorCode.EMPTY_FILE


def test_kinds_that_are_known_but_not_supported_are_named():
    failure = fail(b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>')
    assert failure == Failure(ErrorCode.UNSUPPORTED, "SVG files are not supported")


def test_the_extension_is_never_asked():
    record = RECORD.__class__("x.png", "/in/x.png")
    sample = decode_image(encoded(scene(), "JPEG"), record, ImagesConfig())
    assert isinstance(sample, Sample)
    assert sample.image_format == "JPEG"


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(ALL),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8),
)
def test_no_damage_raises(form, edits):
    kind, options = form
    data = bytearray(encoded(scene(16, 24), kind, **options))
    for place, value in edits:
        data[place % len(data)] = value
    result = decode_image(bytes(data), RECORD, ImagesConfig(max_pixels=10_000_000))
    if isinstance(result, Failure):
        assert "\n" not in result.message
    else:
        assert result.pixels.shape == (*result.original_hw, 3)


def test_memory_that_runs_out_is_too_large(monkeypatch):
    def exhausted(*_args):
        raise MemoryError

    monkeypatch.setitem(decode_image.__globals__["DECODERS"], "PNG", exhausted)
    assert fail(encoded(scene(), "PNG")).code is ErrorCode.TOO_LARGE


def test_threads_agree():
    files = [encoded(scene(40 + i, 50), kind, **o) for i in range(3) for kind, o in ALL]
    expected = [decode(data).pixels.tobytes() for data in files]
    results: list[list[bytes]] = []

    def work():
        results.append([decode(data).pixels.tobytes() for data in files])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4


def test_real_photos_equal_pillow(shared_data):
    paths = sorted((shared_data / "photos").glob("*.*g"))
    paths += sorted((shared_data / "coco-photos" / "images").glob("*.jpg"))[:8]
    assert len(paths) > 20
    for path in paths:
        sample = decode(path.read_bytes())
        expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
        # A few grey levels would be another IDCT; Pillow may be built with another libjpeg.
        assert np.abs(sample.pixels.astype(int) - expected).max() <= 4, path.name
