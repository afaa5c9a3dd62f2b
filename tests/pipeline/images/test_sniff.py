"""sniff.py: kinds from first bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures_encoded import encoded, scene

from pipeline.images.decode import DECODERS
from pipeline.images.sniff import DECODABLE, is_cut, sniff


def test_every_decodable_kind_has_a_decoder():
    assert set(DECODERS) == set(DECODABLE)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"])
def test_kinds_that_pillow_writes(kind):
    assert sniff(encoded(scene(), kind)) == kind


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"MM\x00*\x00\x00\x00\x08", "TIFF"),
        (b"II+\x00\x08\x00\x00\x00", "TIFF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "SVG"),
        (b"\xef\xbb\xbf\n<?xml version='1.0'?><!-- a licence --><svg>", "SVG"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "HEIC"),
        (b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1avifmiaf", "AVIF"),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00isommp42", "MP4 video"),
        (b"\x00\x00\x00\x1cftypmiaf\x00\x00\x00\x00mif1avif", "AVIF"),
        (b"\x00\x00\x00\x1cftypmif2\x00\x00\x00\x00mif1heic", "HEIC"),
        (b"II*\x00\x10\x00\x00\x00CR\x02\x00", "Canon raw"),
        (b"RIFF\x24\x00\x00\x00AVI LIST", "AVI video"),
        (b"\x1aE\xdf\xa3\x01\x00", "Matroska video"),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"8BPS\x00\x01", "Photoshop"),
        (b"\x00" * 128 + b"DICM", "DICOM"),
    ],
)
def test_other_kinds(start, kind):
    assert sniff(start) == kind


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"B",
        b"BM but only text that begins with BM",
        b"<?xml version='1.0'?><html/>",
        b"<!DOCTYPE html>",
        b"%PDF-1.7",
        b"PK\x03\x04",
        b"RIFF",
        b'{"a": 1}',
    ],
)
def test_what_is_no_picture(start):
    assert sniff(start) == ""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_whole_files_are_not_cut_and_halves_are(kind):
    data = encoded(scene(), kind)
    assert not is_cut(kind, data)
    half = data[:40] if kind == "JPEG" else data[: len(data) // 2]
    assert is_cut(kind, half)


@given(st.sampled_from(DECODABLE), st.binary(max_size=80))
def test_no_bytes_raise(kind, data):
    sniff(data)
    is_cut(kind, data)
