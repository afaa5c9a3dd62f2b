"""pillow_kinds.py: HEIC through pillow-heif, MPO's further pictures."""

from __future__ import annotations

import io

import numpy as np
import pillow_heif
import pytest
from pictures_encoded import decode, encoded, fail, scene
from PIL import Image, ImageOps

from schemas.records import ErrorCode


def heic(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=90, **options)
    return file.getvalue()


def test_heic():
    data = heic(Image.fromarray(np.repeat(np.repeat(scene(), 2, 0), 2, 1)))
    sample = decode(data)
    assert sample.image_format == "HEIC"
    peer = np.asarray(pillow_heif.open_heif(data).to_pillow().convert("RGB"))
    np.testing.assert_array_equal(sample.pixels, peer)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_is_turned_upright_once(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    image = Image.fromarray(np.repeat(np.repeat(scene(), 2, 0), 2, 1))
    data = heic(image, exif=block.tobytes())
    sample = decode(data)
    turned = Image.open(io.BytesIO(encoded(image, "PNG", exif=block)))
    expected = np.asarray(ImageOps.exif_transpose(turned).convert("RGB")).astype(int)
    assert sample.pixels.shape == expected.shape
    assert np.abs(sample.pixels.astype(int) - expected).mean() < 12


def test_heic_without_its_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    failure = fail(heic_bytes())
    assert failure.code is ErrorCode.UNSUPPORTED
    assert failure.message == "HEIC: install maskmill[heif] to read it"


def heic_bytes() -> bytes:
    return b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic"


def test_heic_that_is_cut_is_a_reason():
    data = heic(Image.fromarray(scene()))
    assert fail(data[: len(data) // 2]).code in (ErrorCode.TRUNCATED, ErrorCode.DECODE_ERROR)


def test_mpo_is_a_jpeg_with_more_pictures_behind_it():
    first, second = scene(), np.ascontiguousarray(scene()[:, ::-1])
    file = io.BytesIO()
    Image.fromarray(first).save(
        file, "MPO", save_all=True, append_images=[Image.fromarray(second)], quality=95
    )
    data = file.getvalue()
    peer = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(decode(data).pixels, np.asarray(peer))
    peer.seek(1)
    sample = decode(data, page=2)
    np.testing.assert_array_equal(sample.pixels, np.asarray(peer))
    assert sample.note == "frame 2 of 2"
    assert fail(encoded(scene(), "JPEG"), page=2).message == "images.page = 2: there is 1 page"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
@pytest.mark.parametrize("choice", [{"time": 2}, {"series": "b"}, {"level": 1}, {"mpp": 0.5}])
def test_a_choice_that_the_kind_does_not_have_never_falls_back(kind, choice):
    data = encoded(scene(), kind)
    failure = fail(data, **choice)
    assert failure.code is ErrorCode.UNSUPPORTED
    assert failure.message.startswith(f"images.{next(iter(choice))}")
    decode(data, time=1, series=1)
