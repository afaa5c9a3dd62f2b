"""tiff.py: files whose first page, tags or byte counts are not what most readers expect."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tifffile
from pictures_encoded import RECORD, decode

from pipeline.images.decode import decode_image
from schemas.config.images import ImagesConfig
from schemas.records import Failure, Sample

RNG = np.random.default_rng(2)
COLOR = np.kron(RNG.integers(0, 256, (5, 7, 3)), np.ones((8, 8, 1))).astype(np.uint8)
SMALL = np.ascontiguousarray(COLOR[::4, ::4])
DNG_VERSION = (50706, "B", 4, bytes([1, 4, 0, 0]), True)
TURNED = (274, "H", 1, 6, True)


def pages(*given: tuple[np.ndarray, dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for values, options in given:
            writer.write(values, **{"photometric": "rgb", "metadata": None, **options})
    return file.getvalue()


def read(data: bytes, **config: Any) -> Sample | Failure:
    return decode_image(data, RECORD, ImagesConfig(**config))


def pixels_of(data: bytes, **config: Any) -> np.ndarray:
    found = read(data, **config)
    assert isinstance(found, Sample), found
    return found.pixels


def refusal(data: bytes, **config: Any) -> tuple[str, str]:
    found = read(data, **config)
    assert isinstance(found, Failure)
    return found.code, found.message


@pytest.mark.parametrize("below", [False, True])
def test_a_thumbnail_before_the_picture_is_not_the_picture(below):
    thumbnail = {"subfiletype": 1, "subifds": 1} if below else {"subfiletype": 1}
    found = read(pages((SMALL, thumbnail), (COLOR, {})))
    assert isinstance(found, Sample)
    np.testing.assert_array_equal(found.pixels, COLOR)
    assert found.note == ""


def test_a_file_of_a_thumbnail_alone_is_that():
    np.testing.assert_array_equal(pixels_of(pages((SMALL, {"subfiletype": 1}))), SMALL)


def test_camera_raw_is_not_its_thumbnail():
    sensor = (COLOR[..., 0].astype(np.uint16), {"photometric": 32803})
    thumbnail = {"subfiletype": 1, "subifds": 1}
    dng = pages((SMALL, {**thumbnail, "extratags": [DNG_VERSION]}), sensor)
    assert refusal(dng) == ("unsupported", "TIFF: camera raw is not supported")
    code, message = refusal(pages((SMALL, thumbnail), sensor))
    assert (code, message[:9]) == ("unsupported", "TIFF: CFA")
    plain = pages((COLOR, {}))
    canon = plain[:8] + b"CR\2\0" + plain[12:]
    assert refusal(canon) == ("unsupported", "Canon raw files are not supported")


def test_a_page_is_turned_as_its_own_tag_says():
    first, second = (COLOR, {"extratags": [TURNED]}), (COLOR[::-1].copy(), {})
    np.testing.assert_array_equal(pixels_of(pages(first, second), page=2), COLOR[::-1])
    np.testing.assert_array_equal(pixels_of(pages(second, first), page=2), np.rot90(COLOR, -1))


def test_the_page_that_is_read_is_measured_and_not_the_first():
    code, message = refusal(pages((SMALL, {}), (COLOR, {})), page=2, max_pixels=500)
    assert code == "too_large"
    assert "56 × 40" in message


def test_inks_that_are_not_cmyk():
    inks = np.dstack((COLOR, COLOR[..., 0]))
    data = pages((inks, {"photometric": "separated", "extratags": [(332, "H", 1, 2, True)]}))
    assert refusal(data)[0] == "unsupported"


# Tags that are missing or wrong, set in the file's bytes.


def changed(data: bytes, code: int, change: Callable[[int], int]) -> bytes:
    out = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tag = file.pages[0].tags[code]  # type: ignore[union-attr]
        size = tag.valuebytecount // tag.count
        values = tag.value if isinstance(tag.value, tuple) else (tag.value,)
        for index, value in enumerate(values):
            at = tag.valueoffset + index * size
            out[at : at + size] = change(value).to_bytes(size, "little")
    return bytes(out)


def without(data: bytes, code: int) -> bytes:
    out = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        at = file.pages[0].tags[code].offset  # type: ignore[union-attr]
    out[at : at + 2] = struct.pack("<H", 65000)
    return bytes(out)


CODECS = [None, "lzw", "zlib", "packbits", "zstd", "jpeg", "jpeg2000", "png", "lzma"]


@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("codec", CODECS)
def test_byte_counts(codec, tile):
    data = pages((COLOR, {"compression": codec, "tile": tile, "rowsperstrip": 8}))
    whole, name = decode(data).pixels, "tiles" if tile else "strips"
    tag = 325 if tile else 279
    for bad in (
        changed(data, tag, lambda count: count + 7),
        changed(data, tag, lambda count: min(65535, count + 60000)),
    ):
        found = read(bad)
        assert isinstance(found, Sample), found
        np.testing.assert_array_equal(found.pixels, whole)
        assert found.note == f"byte counts of {name} too large"
    found = read(without(data, tag))
    assert isinstance(found, Sample), found
    np.testing.assert_array_equal(found.pixels, whole)
    assert found.note.startswith(f"no byte counts of {name}")
    assert refusal(data[:-200])[0] == "truncated"


@pytest.mark.parametrize("codec", CODECS)
def test_a_missing_number_of_samples_or_bits_is_no_other_picture(codec):
    data = pages((COLOR, {"compression": codec}))
    assert refusal(without(data, 277))[0] == "decode_error"
    assert refusal(without(data, 258)) == ("decode_error", "TIFF: no BitsPerSample")
    grey = pages((COLOR[..., 0].copy(), {"photometric": "minisblack"}))
    assert refusal(without(grey, 258)) == ("decode_error", "TIFF: no BitsPerSample")


def test_one_bit_needs_no_tag():
    bits = COLOR[..., 0] > 99
    data = pages((bits, {"photometric": "minisblack"}))
    np.testing.assert_array_equal(pixels_of(data)[..., 0], bits * np.uint8(255))


SET = """<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"
UUID="urn:uuid:{own}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8"
SizeX="56" SizeY="40" SizeZ="2" SizeC="1" SizeT="1"><Channel ID="Channel:0:0"
SamplesPerPixel="1"/><TiffData FirstZ="0" IFD="0" PlaneCount="1"><UUID
FileName="a.tif">urn:uuid:1</UUID></TiffData><TiffData FirstZ="1" IFD="0" PlaneCount="1"><UUID
FileName="b.tif">urn:uuid:2</UUID></TiffData></Pixels></Image></OME>"""


@pytest.mark.parametrize("own", [1, 2])
def test_of_a_set_of_ome_files_each_is_its_own_planes(own):
    values = COLOR[..., own].copy()
    data = pages((values, {"photometric": "minisblack", "description": SET.format(own=own)}))
    found = read(data)
    assert isinstance(found, Sample), found
    np.testing.assert_array_equal(found.pixels[..., 0], values)
    assert found.note == "1 of 2 planes are in this file"
    assert refusal(data, projection="max")[1].endswith("is not in this file")


def test_what_gdal_calls_no_data_does_not_drown_the_rest():
    values = COLOR[..., 0].astype(np.float32)
    expected = pixels_of(pages((values, {"photometric": "minisblack"})))
    values[:20] = np.finfo(np.float32).min
    tag = (42113, "s", 24, "-3.40282346638528860e+38", True)
    found = read(pages((values, {"photometric": "minisblack", "extratags": [tag]})))
    assert isinstance(found, Sample)
    assert found.note == "no-data values are 0"
    assert (found.pixels[:20] == 0).all()
    assert np.unique(found.pixels[20:]).size == np.unique(expected[20:]).size
