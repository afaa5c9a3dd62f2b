"""large.py: what is decoded in bands equals what is decoded at once; or the row says why not."""

from __future__ import annotations

import errno
import io
import os
import pickle
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from pictures_encoded import RECORD, decode, encoded, scene
from PIL import Image
from slides import PLACES

from pipeline.images import large, memory
from pipeline.images.large import FilePixels, decode_by_bands
from schemas.config.images import ImagesConfig
from schemas.records import ErrorCode, Failure, Sample

SCENE = scene(90, 65)
REFUSAL = Failure(
    ErrorCode.TOO_LARGE,
    "9 MP needs about 3 GB, this worker may use 1; tile it or set images.max_pixels",
    temporary=True,
)


@pytest.fixture(autouse=True)
def bands_of_16_rows(monkeypatch):
    monkeypatch.setattr(large, "_BAND", 65 * 16)


def banded(data: bytes, **config: Any) -> Sample | Failure:
    return decode_by_bands(data, RECORD, ImagesConfig(**config), REFUSAL)


def same(data: bytes) -> None:
    """In bands and at once: the same pixels, wherever it is cut, size, orientation and note."""
    whole, found = decode(data), banded(data)
    assert isinstance(found, Sample), found
    assert isinstance(found.pixels, FilePixels)
    assert found.original_hw == whole.original_hw
    assert (found.orientation, found.note) == (whole.orientation, whole.note)
    assert found.image_format == whole.image_format
    for place in PLACES:
        np.testing.assert_array_equal(found.pixels[place], whole.pixels[place])
    np.testing.assert_array_equal(np.asarray(found.pixels), whole.pixels)


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return exif.tobytes()


def modes() -> dict[str, Image.Image]:
    rgb = Image.fromarray(SCENE)
    alpha = Image.fromarray(SCENE[..., 0])
    palette = rgb.quantize(200)
    return {
        "RGB": rgb,
        "L": rgb.convert("L"),
        "1": rgb.convert("1"),
        "P": palette,
        "RGBA": Image.merge("RGBA", (*rgb.split(), alpha)),
        "LA": Image.merge("LA", (rgb.convert("L"), alpha)),
        "P of 4 bits": rgb.quantize(11),
        "P of 2 bits": rgb.quantize(4),
    }


@pytest.mark.parametrize("mode", list(modes()))
def test_png(mode):
    same(encoded(modes()[mode], "PNG"))


def test_png_with_transparent_colours():
    same(encoded(modes()["P"], "PNG", transparency=3))
    same(encoded(modes()["RGB"], "PNG", transparency=tuple(SCENE[0, 0].tolist())))


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("mode", ["percentile", "full"])
def test_png_of_16_bits(bands, mode):
    noise = np.random.default_rng(1).integers(0, 65536, (90, 65, bands))
    values = (noise // 9 + np.arange(65)[:, None] * 700).astype(np.uint16)
    data = cv2.imencode(".png", values)[1].tobytes()
    whole, found = decode(data, stretch_16bit=mode), banded(data, stretch_16bit=mode)
    assert isinstance(found, Sample)
    np.testing.assert_array_equal(np.asarray(found.pixels), whole.pixels)
    assert found.note == whole.note


def test_png_with_frames_is_its_first():
    more = [Image.fromarray(255 - SCENE), Image.fromarray(SCENE[::-1])]
    for apart in (False, True):
        data = encoded(SCENE, "PNG", save_all=True, append_images=more, default_image=apart)
        same(data)
        assert decode(data).note == "first of 3 frames"


def test_png_of_noise_uses_every_filter():
    noise = np.random.default_rng(1).integers(0, 256, (90, 65, 3), dtype=np.uint8)
    same(encoded(np.where(SCENE > 99, noise, SCENE), "PNG"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned(kind, orientation):
    same(encoded(SCENE, kind, exif=turned(orientation)))


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}]
)
def test_jpeg(options):
    same(encoded(SCENE, "JPEG", **options))
    same(encoded(SCENE[..., 0], "JPEG", **options))


def test_jpeg_without_its_end_mark():
    same(encoded(SCENE, "JPEG")[:-2])


@pytest.mark.parametrize("codec", [None, "lzw", "zlib", "packbits", "jpeg"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_tiff_of_strips(codec, orientation):
    for values, photometric in ((SCENE, "rgb"), (SCENE[..., 1].copy(), "minisblack")):
        file = io.BytesIO()
        tifffile.imwrite(
            file,
            values,
            photometric=photometric,
            compression=codec,
            rowsperstrip=16 if codec == "jpeg" else 5,
            metadata=None,
            extratags=[(274, "H", 1, orientation, True)],
        )
        same(file.getvalue())


def tiff(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, metadata=None, **options)
    return file.getvalue()


def interlaced() -> bytes:
    data = bytearray(encoded(SCENE, "PNG"))
    data[28] = 1
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (interlaced(), "a PNG that is interlaced is not decoded in bands"),
        (encoded(Image.new("CMYK", (9, 9)), "JPEG"), "a JPEG in CMYK is not decoded in bands"),
        (encoded(SCENE, "WEBP"), "WEBP is not decoded in bands"),
        (tiff(SCENE.astype(np.uint16)), "only a TIFF of one page, 8-bit grey or RGB"),
        (tiff(SCENE, photometric="rgb", compression="zlib", rowsperstrip=90), "strips so large"),
    ],
)
def test_what_cannot_be_decoded_in_bands_says_so(data, why):
    found = banded(data)
    assert isinstance(found, Failure)
    assert found.temporary
    assert found.code is ErrorCode.TOO_LARGE
    assert found.message.startswith("9 MP needs about 3 GB, this worker may use 1; ")
    assert why in found.message
    assert "tile it" not in found.message


def test_a_choice_of_channels_is_no_work_for_bands():
    found = banded(encoded(SCENE, "PNG"), channels=(1,))
    assert isinstance(found, Failure)
    assert "with a choice of pages or channels" in found.message


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_what_is_cut_is_truncated(kind):
    data = encoded(SCENE, kind)
    found = banded(data[: len(data) * 2 // 3])
    assert isinstance(found, Failure)
    assert found.code is ErrorCode.TRUNCATED


def test_damaged_pixels_are_a_failure():
    data = bytearray(encoded(SCENE, "PNG"))
    at = data.index(b"IDAT") + 200
    data[at : at + 40] = bytes(40)
    found = banded(bytes(data))
    assert isinstance(found, Failure)
    assert found.code in (ErrorCode.DECODE_ERROR, ErrorCode.TRUNCATED)


def test_it_survives_pickling():
    found = banded(encoded(SCENE, "PNG"))
    assert isinstance(found, Sample)
    again = pickle.loads(pickle.dumps(found.pixels))
    np.testing.assert_array_equal(np.asarray(again), SCENE)


def test_even_in_bands_there_is_a_limit(monkeypatch):
    monkeypatch.setattr(memory, "worker_memory", lambda: 1000)
    found = banded(encoded(SCENE, "PNG"))
    assert isinstance(found, Failure)
    assert found.code is ErrorCode.TOO_LARGE
    assert found.temporary
    assert found.message.startswith("0.0059 MP needs about")
    assert "tile it" not in found.message


def test_a_full_disk_is_a_reason(monkeypatch):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    found = banded(encoded(SCENE, "PNG"))
    assert isinstance(found, Failure)
    assert found.temporary
    assert "no room for 0.0 GB in" in found.message
    assert "No space left on device" in found.message


def test_what_libraries_say_of_damage_is_not_said_again():
    data = bytearray(encoded(SCENE, "PNG"))
    at = data.index(b"IDAT") + 4
    data[at : at + 2] = b"\0\0"
    no_rows = bytearray(encoded(SCENE, "PNG"))
    no_rows[20:24] = bytes(4)
    for broken, said in ((data, "PNG: the file is damaged"), (no_rows, "PNG: it has no pixels")):
        found = banded(bytes(broken))
        assert isinstance(found, Failure)
        assert (found.code, found.message) == (ErrorCode.DECODE_ERROR, said)
