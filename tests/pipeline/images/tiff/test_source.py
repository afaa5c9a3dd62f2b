"""tiff.py: depths, bands, compressions, pages, and the road each takes."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from pictures_encoded import decode, encoded, fail, scene
from PIL import Image, ImageOps

from schemas.records import ErrorCode


def written(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def deep(*shape: int, dtype: Any = np.uint16) -> np.ndarray:
    values = np.random.default_rng(1).integers(0, 65536, shape)
    return (values - 32768 if np.dtype(dtype) == np.int16 else values).astype(dtype)


def full(values: np.ndarray) -> np.ndarray:
    """What a full-range stretch of uint16 must give, as RGB."""
    shallow = np.rint(values / 257).astype(np.uint8)
    return np.repeat(shallow[..., None], 3, axis=2) if shallow.ndim == 2 else shallow


@pytest.mark.parametrize("compression", [None, "zlib", "lzma"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3)])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_16_bit_layouts(compression, tile, shape, byteorder):
    values = deep(*shape)
    photometric = "rgb" if len(shape) == 3 else "minisblack"
    data = written(
        values, compression=compression, tile=tile, photometric=photometric, byteorder=byteorder
    )
    np.testing.assert_array_equal(decode(data, stretch_16bit="full").pixels, full(values))


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3)])
def test_16_bit_lzw_as_opencv_writes_it(shape):
    values = deep(*shape)
    stored = values if values.ndim == 2 else values[..., ::-1]
    data = cv2.imencode(".tif", stored, [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes()
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert file.pages[0].compression.name == "LZW"
    np.testing.assert_array_equal(decode(data, stretch_16bit="full").pixels, full(values))


@pytest.mark.parametrize(
    "compression", ["raw", "tiff_lzw", "packbits", "jpeg", "tiff_adobe_deflate", "zstd", "lzma"]
)
def test_8_bit_compressions(compression):
    data = encoded(scene(), "TIFF", compression=compression)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode(data).pixels, expected)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_fax_compressions(compression):
    image = Image.fromarray(scene()).convert("1")
    sample = decode(encoded(image, "TIFF", compression=compression))
    np.testing.assert_array_equal(sample.pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    "dtype", [np.int8, np.int16, np.int32, np.uint32, np.float16, np.float32, np.float64]
)
@pytest.mark.parametrize("mode", ["full", "percentile"])
def test_every_depth_keeps_the_order_of_values(dtype, mode):
    ramp = np.linspace(0, 100, 60 * 80).reshape(60, 80).astype(dtype)
    grey = decode(written(ramp), stretch_16bit=mode).pixels[..., 0].astype(int)
    assert (np.diff(grey.reshape(-1)) >= 0).all()
    if mode == "percentile":
        assert (grey.min(), grey.max()) == (0, 255)


def test_12_bits_in_16_fill_the_range():
    values = np.linspace(0, 4095, 100 * 100).astype(np.uint16).reshape(100, 100)
    assert decode(written(values)).pixels.max() == 255
    assert decode(written(values), stretch_16bit="full").pixels.max() == 16


def test_zero_is_white_where_the_file_says_so():
    values = deep(20, 30)
    data = written(values, photometric="miniswhite")
    np.testing.assert_array_equal(decode(data, stretch_16bit="full").pixels, 255 - full(values))
    shallow = scene()[..., 0]
    data = written(shallow, photometric="miniswhite")
    np.testing.assert_array_equal(decode(data).pixels[..., 1], 255 - shallow)


def test_bands():
    rgba = deep(20, 30, 4)
    data = written(rgba, photometric="rgb", extrasamples=["unassalpha"])
    sample = decode(data, stretch_16bit="full")
    np.testing.assert_array_equal(sample.pixels, full(rgba[..., :3]))
    assert sample.note == "alpha dropped"

    planes = deep(3, 20, 30)
    data = written(planes, photometric="rgb", planarconfig="separate")
    sample = decode(data, stretch_16bit="full")
    np.testing.assert_array_equal(sample.pixels, full(np.moveaxis(planes, 0, -1)))

    many = deep(8, 20, 30)
    data = written(many, photometric="minisblack", planarconfig="separate")
    sample = decode(data, stretch_16bit="full")
    np.testing.assert_array_equal(sample.pixels, full(np.moveaxis(many[:3], 0, -1)))
    assert sample.note == "first 3 of 8 bands"

    shallow = deep(20, 30, 5, dtype=np.uint8)
    sample = decode(written(shallow, photometric="minisblack", planarconfig="contig"))
    np.testing.assert_array_equal(sample.pixels, shallow[..., :3])
    assert sample.note == "first 3 of 5 bands"

    two = deep(20, 30, 2)
    sample = decode(
        written(two, photometric="minisblack", planarconfig="contig"), stretch_16bit="full"
    )
    np.testing.assert_array_equal(sample.pixels, full(two[..., 0]))
    assert sample.note == "first of 2 bands"


def test_two_8_bit_bands_say_so_too():
    two = deep(20, 30, 2, dtype=np.uint8)
    sample = decode(written(two, photometric="minisblack", planarconfig="contig"))
    np.testing.assert_array_equal(sample.pixels[..., 0], two[..., 0])
    assert sample.note == "first of 2 bands"


def test_multiplied_alpha_is_divided_out():
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[...] = (100, 50, 25, 128)
    data = written(rgba, photometric="rgb", extrasamples=["assocalpha"])
    sample = decode(data)
    assert np.abs(sample.pixels[0, 0].astype(int) - [199, 100, 50]).max() <= 2
    assert sample.note == "alpha dropped"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pages(dtype):
    values = deep(4, 20, 30, dtype=dtype)
    sample = decode(written(values, photometric="minisblack"), stretch_16bit="full")
    expected = full(values[0]) if dtype == np.uint16 else np.repeat(values[0][..., None], 3, 2)
    np.testing.assert_array_equal(sample.pixels, expected)
    assert sample.note == "first of 4 pages"


def test_a_volume_in_one_page():
    values = deep(4, 32, 32)
    data = written(values, photometric="minisblack", tile=(4, 32, 32), volumetric=True)
    sample = decode(data, stretch_16bit="full")
    np.testing.assert_array_equal(sample.pixels, full(values[0]))
    assert sample.note == "first of 4 planes of a z-stack"


def test_bigtiff():
    values = deep(20, 30)
    data = written(values, bigtiff=True)
    np.testing.assert_array_equal(decode(data, stretch_16bit="full").pixels, full(values))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_orientation_of_deep_and_shallow_pages(orientation, byteorder):
    tag = [(274, "H", 1, orientation, True)]
    upright = {}
    for dtype in (np.uint8, np.uint16):
        values = scene()[..., 0].astype(dtype) * (257 if dtype == np.uint16 else 1)
        data = written(values, extratags=tag, byteorder=byteorder)
        sample = decode(data, stretch_16bit="full")
        assert sample.orientation == orientation
        upright[dtype] = sample.pixels
    expected = ImageOps.exif_transpose(turned(orientation)).convert("RGB")
    np.testing.assert_array_equal(upright[np.uint8], np.asarray(expected))
    np.testing.assert_array_equal(upright[np.uint16], upright[np.uint8])


def turned(orientation: int) -> Image.Image:
    """The scene as a PNG with an orientation, which Pillow leaves as stored."""
    block = Image.Exif()
    block[0x0112] = orientation
    return Image.open(io.BytesIO(encoded(scene()[..., 0], "PNG", exif=block)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_cut_files(dtype, compression):
    data = written(deep(64, 64, dtype=dtype), compression=compression)
    for share in (0.3, 0.7, 0.98):
        failure = fail(data[: int(len(data) * share)])
        assert failure == fail(data[: int(len(data) * share)])
        assert failure.code is ErrorCode.TRUNCATED


def test_the_limit_holds_for_deep_pages():
    assert fail(written(deep(20, 30)), max_pixels=599).code is ErrorCode.TOO_LARGE


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(written(deep(8, 8).astype(np.complex64)), id="complex"),
        pytest.param(
            written(deep(8, 8, 4).astype(np.float32), photometric="separated"),
            id="CMYK in floats",
        ),
    ],
)
def test_unsupported_kinds_are_described(data):
    failure = fail(data)
    assert failure.code is ErrorCode.UNSUPPORTED
    assert failure.message.startswith("TIFF: ")
    assert failure.message.endswith("is not supported")


def test_damaged_tags_end_in_a_reason():
    data = bytearray(written(deep(20, 30)))
    data[8:12] = b"\xff\xff\xff\xff"
    assert fail(bytes(data)).code in (ErrorCode.DECODE_ERROR, ErrorCode.TRUNCATED)
    assert fail(b"II*\x00\x08\x00\x00\x00").code is ErrorCode.TRUNCATED


def test_a_real_satellite_scene(shared_data):
    folder = shared_data / "satellite" / "spacenet"
    sample = decode((folder / "image_uint16.tif").read_bytes())
    expected = np.asarray(Image.open(folder / "image_uint8.png").convert("L")).astype(float)
    assert sample.original_hw == expected.shape
    grey = sample.pixels[..., 0].astype(float)
    assert np.corrcoef(grey.reshape(-1), expected.reshape(-1))[0, 1] > 0.97
    assert grey.std() > 25


def pyramid(*, mpp: float = 0.25) -> tuple[bytes, list[np.ndarray]]:
    """An OME-TIFF of three levels and its levels, the finest first."""
    levels = [deep(160, 240), deep(80, 120), deep(40, 60)]
    file = io.BytesIO()
    with tifffile.TiffWriter(file, ome=True) as writer:
        sizes = {"axes": "YX", "PhysicalSizeX": mpp, "PhysicalSizeY": mpp}
        writer.write(levels[0], subifds=2, tile=(32, 32), metadata=sizes)
        for level in levels[1:]:
            writer.write(level, subfiletype=1, tile=(32, 32))
    return file.getvalue(), levels


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_level_by_its_number(level):
    data, levels = pyramid()
    sample = decode(data, level=level, stretch_16bit="full")
    np.testing.assert_array_equal(sample.pixels, full(levels[level]))
    assert sample.note == (f"level {level} of 3" if level else "")
    assert fail(data, level=3).message == "images.level = 3: the image has 3 levels"


@pytest.mark.parametrize(
    ("mpp", "level"), [(0.1, 0), (0.25, 0), (0.4, 0), (0.5, 1), (0.95, 1), (1, 2), (8, 2)]
)
def test_a_level_by_the_size_of_its_pixels(mpp, level):
    data, levels = pyramid()
    assert decode(data, mpp=mpp).original_hw == levels[level].shape
    for said in ({}, {"resolution": (72, 72), "resolutionunit": "INCH"}):  # screens' says nothing
        plain = written(deep(20, 30), **said)
        assert "does not say how large its pixels are" in fail(plain, mpp=mpp).message


def test_a_level_is_measured_by_itself(monkeypatch):
    data, _ = pyramid()
    monkeypatch.setattr("pipeline.images.memory.worker_memory", lambda: 4 * 50 * 40 * 60)
    assert fail(data).temporary
    decode(data, level=2)
