"""tiff_page.py: odd depths, missing tags and strips, alpha at every depth, codecs by name."""

from __future__ import annotations

import io
import struct
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from pictures_encoded import decode, encoded, fail, scene
from PIL import Image

from pipeline.images.decode import decode_values
from schemas.config.images import ImagesConfig
from schemas.records import ErrorCode, Failure

RNG = np.random.default_rng(11)
GREY = RNG.integers(0, 256, (40, 50)).astype(np.uint8)


def written(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **{"metadata": None, **options})
    return file.getvalue()


def with_tag(data: bytes, code: int, *, value: int | None = None, renamed: int = 0) -> bytes:
    """The file with the (inline) value of a tag changed, or the tag under another number."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        tag = page.tags[code]
        at, place, size = tag.offset, tag.valueoffset, tag.valuebytecount
    out = bytearray(data)
    if value is not None:
        out[place : place + size] = value.to_bytes(size, "little")
    if renamed:
        out[at : at + 2] = struct.pack("<H", renamed)
    return bytes(out)


def values_of(data: bytes) -> np.ndarray:
    found = decode_values(data, ImagesConfig())
    assert not isinstance(found, Failure), found
    return found


@pytest.mark.parametrize("bits", [9, 10, 12, 14])
@pytest.mark.parametrize("rows", [7, 40])
def test_packed_bits(bits, rows):
    values = RNG.integers(0, 1 << bits, (40, 50)).astype(np.uint16)
    data = written(values, bitspersample=bits, rowsperstrip=rows)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        assert page.bitspersample == bits
    np.testing.assert_array_equal(values_of(data)[..., 0], values)
    assert decode(data).note == ""


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_few_bits_fill_the_range_of_8(bits):
    values = RNG.integers(0, 1 << bits, (40, 48)).astype(np.uint8)
    data = written(values, bitspersample=bits, photometric="minisblack")
    expected = values.astype(int) * 255 // ((1 << bits) - 1)
    np.testing.assert_array_equal(decode(data).pixels[..., 0], expected)
    peer = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    np.testing.assert_array_equal(decode(data).pixels[..., 0], peer)


def test_without_a_photometric_interpretation():
    grey = with_tag(written(GREY, photometric="minisblack"), 262, renamed=261)
    sample = decode(grey)
    np.testing.assert_array_equal(sample.pixels[..., 1], GREY)
    assert sample.note == "no PhotometricInterpretation, taken as 0 is black"
    color = with_tag(written(scene(), photometric="rgb"), 262, renamed=261)
    sample = decode(color)
    np.testing.assert_array_equal(sample.pixels, scene())
    assert sample.note == "no PhotometricInterpretation, taken as RGB"


@pytest.mark.parametrize("codec", [None, "lzw", "zlib", "zstd", "packbits"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_byte_counts_that_are_too_generous(codec, dtype):
    values = GREY.astype(dtype) * (257 if dtype == np.uint16 else 1)
    data = written(values, compression=codec, rowsperstrip=40)
    sample = decode(with_tag(data, 279, value=len(data) + 5000), stretch_16bit="full")
    np.testing.assert_array_equal(sample.pixels[..., 0], GREY)
    assert sample.note == "byte counts of strips too large"


@pytest.mark.parametrize("codec", [None, "lzw", "zlib", "zstd", "packbits", "jpeg"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_what_ends_inside_its_last_strip_is_cut(codec, tile):
    options = {"tile": tile} if tile else {"rowsperstrip": 16}
    data = written(GREY, compression=codec, **options)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        end = page.dataoffsets[-1] + page.databytecounts[-1]
    assert fail(data[: end - 9]).code is ErrorCode.TRUNCATED


@pytest.mark.parametrize("codec", [None, "lzw", "zlib"])
def test_strips_that_nobody_lists_are_no_pixels(codec):
    """Memory that no strip was written to once became pixels, other ones in every run."""
    data = written(GREY, compression=codec, rowsperstrip=10, bigtiff=False)
    taller = with_tag(data, 257, value=400)
    assert fail(taller).code is ErrorCode.TRUNCATED


@pytest.mark.parametrize("options", [{"tile": (16, 16), "compression": "zlib"}, {}])
def test_a_layout_that_is_stored_as_another_type_is_damage(options):
    """Taken for planes, bands that nobody wrote were black."""
    data = written(np.dstack([GREY] * 3), photometric="rgb", **options)
    entry = struct.pack("<HHI", 284, 3, 1)
    assert data.count(entry) == 1
    damaged = data.replace(entry, struct.pack("<HHI", 284, 1, 1))
    found = fail(damaged)
    assert found.code == ErrorCode.DECODE_ERROR
    assert "PlanarConfiguration" in found.message


def test_tiles_that_are_not_stored_are_empty_and_noted():
    """As GDAL writes sparse files."""
    tiles = [np.full((16, 16), 200, np.uint8).tobytes(), b"", b"", b""]
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(iter(tiles), shape=(32, 32), dtype=np.uint8, tile=(16, 16), metadata=None)
    sample = decode(file.getvalue())
    assert sample.pixels[0, 0, 0] == 200
    assert (sample.pixels[16:, 16:] == 0).all()
    assert sample.note == "3 of 4 tiles are not stored, taken as empty"


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f4"])
@pytest.mark.parametrize("bands", [2, 4])
def test_multiplied_alpha_is_divided_out_at_every_depth(dtype, bands):
    top = 1.0 if dtype == "f4" else float(np.iinfo(dtype).max)
    color = RNG.uniform(0.1, 1, (20, 24, bands - 1))
    alpha = RNG.choice([0.25, 0.5, 1.0], (20, 24, 1))
    stored = np.concatenate((color * alpha, alpha), axis=-1) * top
    stored = stored if dtype == "f4" else np.floor(stored)
    photometric = "rgb" if bands == 4 else "minisblack"
    options: dict[str, Any] = {"photometric": photometric, "planarconfig": "contig"}
    data = written(stored.astype(dtype), extrasamples=["assocalpha"], **options)
    got = values_of(data)[..., : bands - 1].astype(np.float64) / top
    # What one step of the stored value is worth after the division.
    assert np.abs(got - color).max() <= (8 / 255 if dtype == "u1" else 8 / 65535)
    assert decode(data).note == "alpha dropped"
    opaque = np.concatenate((color, np.ones_like(alpha)), axis=-1) * top
    data = written(opaque.astype(dtype), extrasamples=["assocalpha"], **options)
    assert decode(data).note == ""


def test_8_bits_divide_as_pillow_does():
    rgba = RNG.integers(0, 256, (30, 40, 4)).astype(np.uint8)
    rgba[..., :3] = rgba[..., :3] * (rgba[..., 3:] / 255.0)
    rgba[:3, :3] = (9, 8, 7, 0)
    data = written(rgba, photometric="rgb", extrasamples=["assocalpha"])
    peer = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA").convert("RGB"))
    np.testing.assert_array_equal(decode(data).pixels, peer)


def test_alpha_is_found_among_other_bands():
    many = RNG.integers(0, 256, (20, 24, 5)).astype(np.uint8)
    data = written(many, photometric="rgb", extrasamples=["unassalpha", "unspecified"])
    np.testing.assert_array_equal(values_of(data), many[..., [0, 1, 2, 4]])
    np.testing.assert_array_equal(decode(data).pixels, many[..., :3])


@pytest.mark.parametrize("scale", [1, 257])
@pytest.mark.parametrize("codec", [None, "lzw"])
def test_palettes(scale, codec):
    index = RNG.integers(0, 256, (20, 24)).astype(np.uint8)
    colors = RNG.integers(0, 256, (3, 256)).astype(np.uint16)
    data = written(
        index, photometric="palette", colormap=(colors * scale).astype(np.uint16), compression=codec
    )
    np.testing.assert_array_equal(decode(data).pixels, colors.T.astype(np.uint8)[index])


@pytest.mark.parametrize("mode", ["YCbCr", "CMYK", "P", "L", "1", "LA", "RGBA"])
@pytest.mark.parametrize("codec", ["raw", "tiff_lzw", "jpeg"])
def test_what_pillow_writes_comes_back_as_pillow_reads_it(mode, codec):
    if codec == "jpeg" and mode in ("P", "1", "LA", "RGBA", "YCbCr", "CMYK"):
        codec = "tiff_adobe_deflate"
    data = encoded(Image.fromarray(scene()).convert(mode), "TIFF", compression=codec)
    peer = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode(data).pixels, peer)


@pytest.mark.parametrize(
    ("code", "name"),
    [(34661, "JBIG"), (34676, "SGILOG"), (34715, "JBIG2"), (48124, "JETRAW"), (60123, "60123")],
)
def test_a_codec_that_is_missing_is_named(code, name):
    data = with_tag(written(GREY, compression="zlib"), 259, value=code)
    failure = fail(data)
    assert failure.code is ErrorCode.UNSUPPORTED
    assert name in failure.message
    assert failure.message.endswith("is not supported")


@pytest.mark.parametrize("codec", ["lzw", "zlib", "zstd", "jpeg2000", "jpegxl", "png", "webp"])
def test_damaged_codec_data_is_a_reason_and_no_exceptions_text(codec):
    color = codec == "webp"
    data = written(scene() if color else GREY, compression=codec)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        start = page.dataoffsets[0]
    broken = data[:start] + b"\x55\xaa\x13" * 10 + data[start + 30 :]
    failure = fail(broken)
    assert failure.code in (ErrorCode.DECODE_ERROR, ErrorCode.UNSUPPORTED)
    assert failure.message.startswith("TIFF: ")
    for word in ("Error", "object", "None", "(", "imagecodecs"):
        assert word not in failure.message


def test_tifffile_says_nothing_on_stderr(capfd):
    data = bytearray(written(GREY, rowsperstrip=10))
    data[4:8] = (len(data) - 3).to_bytes(4, "little")
    fail(bytes(data))
    decode(with_tag(written(GREY), 262, renamed=261))
    out = capfd.readouterr()
    assert out.err == out.out == ""


def test_imagecodecs_reads_what_these_tests_write():
    for codec in ("LZW", "ZSTD", "JPEG2K", "JPEGXL", "LERC", "PNG", "WEBP", "CCITTFAX4"):
        assert getattr(imagecodecs, codec).available, codec


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("codec", [None, "lzw"])
@pytest.mark.parametrize("order", "<>")
def test_cmyk_of_16_bits_is_that_of_8(planar, codec, order):
    inks = np.asarray(Image.fromarray(scene()).convert("CMYK")).copy()
    inks[..., 3] = scene()[..., 0] // 3
    with_more = np.dstack((inks, np.full(inks.shape[:2], 77, np.uint8)))
    options: dict[str, Any] = {"photometric": "separated", "compression": codec, "byteorder": order}
    expected = values_of(written(inks, photometric="separated"))
    for values in (inks, with_more):
        deep = values.astype(np.uint16) * 257
        if planar:
            deep = np.moveaxis(deep, -1, 0).copy()
            options["planarconfig"] = "separate"
        found = values_of(written(deep, **options))
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(np.rint(found / 257), expected)
