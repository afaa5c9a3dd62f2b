"""png.py: metadata that nobody needs costs no image; pixels keep their checksum's word."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from pictures_encoded import RECORD, decode, encoded, fail, scene
from PIL import Image

from pipeline.images.decode import decode_image, decode_values
from schemas.config.images import ImagesConfig
from schemas.records import ErrorCode

PLAIN = encoded(scene(), "PNG")


def chunk(kind: bytes, body: bytes, *, wrong: bool = False) -> bytes:
    check = zlib.crc32(kind + body) ^ wrong
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)


def with_chunk(piece: bytes, *, behind: bool = False, data: bytes = PLAIN) -> bytes:
    """The file with a chunk before its pixels, or behind them."""
    at = data.index(b"IEND") - 4 if behind else 33
    return data[:at] + piece + data[at:]


BIG = 3 << 20
LARGE = {
    "zTXt": chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(BIG))),
    "iTXt": chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(bytes(BIG))),
    "iCCP": chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(BIG))),
}


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("kind", LARGE)
def test_large_text_and_profiles_are_skipped(kind, behind):
    sample = decode(with_chunk(LARGE[kind], behind=behind))
    np.testing.assert_array_equal(sample.pixels, scene())
    assert sample.note == f"{kind} skipped: very large"


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"tIME", b"pHYs", b"gAMA"])
@pytest.mark.parametrize("behind", [False, True])
def test_a_wrong_checksum_of_what_is_not_needed_is_a_note(kind, behind):
    sample = decode(with_chunk(chunk(kind, b"k\0 text", wrong=True), behind=behind))
    np.testing.assert_array_equal(sample.pixels, scene())
    if sample.note:  # Pillow looks at none of these behind the pixels
        assert sample.note == f"{kind.decode()} skipped: wrong checksum"
    assert sample.note or behind


@pytest.mark.parametrize(
    ("pieces", "name"),
    [
        (chunk(b"gAMA", b"x"), "gAMA"),
        (chunk(b"tEXt", b"k\0" + b"a" * 900_000) * 75, "tEXt"),
    ],
)
def test_metadata_that_pillow_refuses_costs_no_image(pieces, name):
    sample = decode(with_chunk(pieces))
    np.testing.assert_array_equal(sample.pixels, scene())
    assert sample.note == f"{name} skipped: damaged or too much metadata"


def test_damaged_transparency_is_not_needed():
    sample = decode(with_chunk(chunk(b"tRNS", bytes(6), wrong=True)))
    np.testing.assert_array_equal(sample.pixels, scene())
    assert sample.note == "tRNS skipped: wrong checksum"


def test_a_wrong_checksum_of_the_header_is_an_error():
    broken = bytearray(PLAIN)
    broken[29] ^= 1
    assert fail(bytes(broken)).code is ErrorCode.DECODE_ERROR


def test_a_wrong_checksum_of_the_pixels_is_a_note():
    at = PLAIN.index(b"IDAT")
    end = at + 4 + int.from_bytes(PLAIN[at - 4 : at], "big")
    sample = decode(PLAIN[:end] + b"\0\0\0\0" + PLAIN[end + 4 :])
    np.testing.assert_array_equal(sample.pixels, scene())
    assert sample.note == "wrong checksum of the pixels"


def test_orientation_survives_the_skipping():
    block = Image.Exif()
    block[0x0112] = 6
    data = with_chunk(LARGE["zTXt"], data=encoded(scene(), "PNG", exif=block))
    sample = decode(data)
    assert sample.orientation == 6
    np.testing.assert_array_equal(sample.pixels, np.rot90(scene(), -1))


def test_a_whole_file_has_no_note():
    assert decode(PLAIN).note == ""
    small = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1000)))
    assert decode(with_chunk(small)).note == ""


# 16 bits: read by another library, which is to see no more than header and pixels.

DEEP = np.random.default_rng(5).integers(0, 65536, (9, 7, 4)).astype(np.uint16)
COLORS = {0: [0], 2: [0, 1, 2], 4: [0, 3], 6: [0, 1, 2, 3]}
"""Colour type → which of the bands it has."""


def deep(color: int, extra: bytes = b"", *, wrong: bool = False, end: bool = True) -> bytes:
    header = struct.pack(">IIBBBBB", 7, 9, 16, color, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP[..., COLORS[color]])
    return b"".join(
        (
            PLAIN[:8],
            chunk(b"IHDR", header),
            extra,
            chunk(b"IDAT", zlib.compress(rows), wrong=wrong),
            chunk(b"IEND", b"") if end else b"",
        )
    )


@pytest.mark.parametrize("color", COLORS)
def test_16_bits_have_the_bands_of_the_file_without_alpha(color, capfd):
    bands = [band for band in COLORS[color] if band < 3]
    for data, note in (
        (deep(color), ""),
        (deep(color, end=False), ""),
        (deep(color, wrong=True), "wrong checksum of the pixels"),
        (deep(color, chunk(b"zTXt", b"broken")), ""),
        (deep(color, chunk(b"tEXt", b"k\0text", wrong=True)), "tEXt skipped: wrong checksum"),
    ):
        found = decode_values(data, ImagesConfig())
        np.testing.assert_array_equal(found, DEEP[..., bands])
        assert decode(data).note == "; ".join(["alpha dropped"] * (color > 3) + [note] * bool(note))
    assert capfd.readouterr().err == ""


def test_an_animation_of_16_bits_says_so():
    frames = chunk(b"acTL", struct.pack(">II", 2, 0))
    data = deep(2, frames)
    assert decode(data).note == "first of 3 frames"
    found = decode_image(data, RECORD, ImagesConfig(page=2))
    assert "frames of 16-bit colour" in getattr(found, "message", "")
    found = decode_image(deep(2), RECORD, ImagesConfig(page=2))
    assert "there is 1 page" in getattr(found, "message", "")


def test_apples_own_kind_is_named():
    failure = fail(PLAIN[:8] + chunk(b"CgBI", b"\0" * 4) + PLAIN[8:])
    assert failure.code is ErrorCode.UNSUPPORTED
    assert "Apple" in failure.message
