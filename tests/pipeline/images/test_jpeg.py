"""jpeg.py: colour spaces, scaling, and what is cut or damaged."""

from __future__ import annotations

import io
import re
import struct

import imagecodecs
import numpy as np
import pytest
from pictures_encoded import decode, encoded, fail, scene
from PIL import Image

from schemas.records import ErrorCode


def noise(height: int = 96, width: int = 128) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
def test_sampling_and_progression(progressive, subsampling):
    data = encoded(scene(), "JPEG", progressive=progressive, subsampling=subsampling)
    np.testing.assert_array_equal(decode(data).pixels, pillow(data))


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_equals_pillow(adobe):
    inks = np.dstack((noise(), noise()[..., :1]))
    data = encoded(Image.fromarray(inks, "CMYK"), "JPEG", quality=95)
    marker = data.index(b"Adobe") - 4
    if not adobe:
        length = int.from_bytes(data[marker + 2 : marker + 4], "big") + 2
        data = data[:marker] + data[marker + length :]
    np.testing.assert_array_equal(decode(data).pixels, pillow(data))


def test_ycck_equals_pillow():
    """The same bytes said to be YCCK: Adobe's transform flag 2."""
    inks = np.dstack((scene(), scene()[..., :1]))
    data = bytearray(encoded(Image.fromarray(inks, "CMYK"), "JPEG", quality=95))
    data[data.index(b"Adobe") + 11] = 2
    difference = np.abs(decode(bytes(data)).pixels.astype(int) - pillow(bytes(data)))
    assert difference.max() <= 1


def test_cmyk_colours_are_right():
    """Cyan ink on paper is cyan, no ink is white, all black ink is black."""
    inks = np.zeros((24, 48, 4), np.uint8)
    inks[:, 16:32, 0] = 255
    inks[:, 32:, 3] = 255
    data = encoded(Image.fromarray(inks, "CMYK"), "JPEG", quality=100)
    pixels = decode(data).pixels[12, [8, 24, 40]].astype(int)
    assert np.abs(pixels - [[255, 255, 255], [0, 255, 255], [0, 0, 0]]).max() <= 3


@pytest.mark.parametrize(
    ("min_side", "expected"),
    [
        (None, (203, 301)),
        (203, (203, 301)),
        (103, (203, 301)),
        (102, (102, 151)),
        (52, (102, 151)),
        (51, (51, 76)),
        (26, (26, 38)),
        (1, (26, 38)),
    ],
)
def test_scaling_keeps_the_shorter_side_above_the_minimum(min_side, expected):
    data = encoded(scene(203, 301), "JPEG")
    sample = decode(data, min_side=min_side)
    assert sample.pixels.shape == (*expected, 3)
    assert sample.original_hw == (203, 301)


def test_scaled_pixels_are_the_picture_made_small():
    data = encoded(scene(320, 480), "JPEG", quality=95)
    small = decode(data, min_side=80).pixels
    expected = np.asarray(
        Image.fromarray(decode(data).pixels).resize((120, 80), Image.Resampling.BOX)
    )
    assert small.shape == expected.shape
    assert np.abs(small.astype(int) - expected).mean() < 2


def test_scaling_and_rotation_together():
    block = Image.Exif()
    block[0x0112] = 6
    sample = decode(encoded(scene(200, 320), "JPEG", exif=block), min_side=100)
    assert sample.pixels.shape == (160, 100, 3)
    assert sample.original_hw == (320, 200)


def test_only_the_limit_of_the_full_size_counts():
    data = encoded(scene(200, 300), "JPEG")
    assert fail(data, max_pixels=59_999).code is ErrorCode.TOO_LARGE


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("restart", [{}, {"restart_marker_blocks": 4}])
def test_every_cut_fails_and_none_is_half_grey(progressive, restart):
    data = encoded(noise(), "JPEG", progressive=progressive, **restart)
    scan = data.index(b"\xff\xda")
    for end in np.linspace(scan + 200, len(data) - 200, 25).astype(int):
        failure = fail(data[:end])
        assert failure.code is ErrorCode.TRUNCATED, end
    assert failure.message == "JPEG: the file ends inside the picture"


def test_a_file_that_ends_in_its_header_is_truncated():
    data = encoded(scene(), "JPEG")
    for end in range(4, data.index(b"\xff\xda"), 37):
        assert fail(data[:end]).code is ErrorCode.TRUNCATED, end


@pytest.mark.parametrize("size", [(96, 128), (33, 17)])
@pytest.mark.parametrize("picture", ["colour", "grey"])
def test_a_progressive_picture_without_its_last_scans_says_so(picture, size):
    values = noise(*size) if picture == "colour" else noise(*size)[..., 0]
    # The profile stands before the frame header: that is not always near the start.
    data = encoded(values, "JPEG", progressive=True, icc_profile=bytes(100_000))
    assert decode(data).note == ""
    scans = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    assert len(scans) > 4
    for cut in scans[1:]:
        fewer = data[:cut] + b"\xff\xd9"
        found = decode(fewer)
        assert found.note == "progressive, without its last scans"
        np.testing.assert_array_equal(found.pixels, pillow(fewer))
        assert fail(data[:cut]).code == ErrorCode.TRUNCATED  # no end marker: cut for certain


@pytest.mark.parametrize("progressive", [False, True])
def test_a_missing_end_marker_is_forgiven_and_noted(progressive):
    data = encoded(noise(), "JPEG", progressive=progressive)
    sample = decode(data[:-2])
    np.testing.assert_array_equal(sample.pixels, pillow(data))
    assert sample.note == "end marker missing"


def test_what_follows_the_end_marker_is_ignored():
    data = encoded(noise(), "JPEG")
    sample = decode(data + b"\x00\xff\xd8trailer" * 99)
    np.testing.assert_array_equal(sample.pixels, pillow(data))
    assert sample.note == ""


def test_a_few_padding_bytes_are_forgiven_and_noted():
    data = encoded(noise(), "JPEG")
    sample = decode(data[:-2] + b"\x00" * 4 + data[-2:])
    np.testing.assert_array_equal(sample.pixels, pillow(data))
    assert "extraneous bytes before marker 0xd9" in sample.note
    stray = bytes(range(1, 101)) * 4
    assert fail(data[:-2] + stray + data[-2:]).code is ErrorCode.DECODE_ERROR


@pytest.mark.parametrize("filling", [b"\x00", b"\xff"])
@pytest.mark.parametrize("count", [40, 100, 4000])
@pytest.mark.parametrize("quality", [60, 75, 95])
def test_filling_after_the_last_block_is_no_loss(filling, count, quality):
    data = encoded(noise(), "JPEG", quality=quality)
    padded = decode(data[:-2] + filling * count + data[-2:])
    np.testing.assert_array_equal(padded.pixels, pillow(data))
    if filling == b"\x00":  # a run of 0xff before a marker is what the standard allows
        assert padded.note == "padded before its end marker"
    unended = decode(data[:-2] + filling * count)
    np.testing.assert_array_equal(unended.pixels, pillow(data))
    assert "end mark" in unended.note


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_pixels_overwritten_with_zeros_are_lost(share, end):
    """Zeros are valid codes: such a file decodes to its end, and its rest is flat."""
    data = encoded(noise(), "JPEG")
    kept = int(len(data) * share)
    assert fail(data[:kept] + b"\x00" * (len(data) - kept) + end).code in (
        ErrorCode.DECODE_ERROR,
        ErrorCode.TRUNCATED,
    )


def test_stray_bytes_in_the_header_are_forgiven_and_noted():
    data = encoded(scene(), "JPEG")
    table = data.index(b"\xff\xdb")
    sample = decode(data[:table] + b"\x01\x02" + data[table:])
    np.testing.assert_array_equal(sample.pixels, decode(data).pixels)
    assert "2 extraneous bytes" in sample.note


def test_damage_inside_the_pixels_is_an_error():
    data = bytearray(encoded(noise(), "JPEG", restart_marker_blocks=4))
    marker = re.search(rb"\xff[\xd0-\xd7]", data)
    assert marker
    data[marker.start() + 1] ^= 4  # the wrong restart marker
    assert fail(bytes(data)).code is ErrorCode.DECODE_ERROR


@pytest.mark.parametrize(("frame", "name"), [(0xC3, "lossless"), (0xC9, "arithmetic")])
def test_rare_processes_end_in_a_reason(frame, name):
    data = bytearray(encoded(scene(), "JPEG"))
    data[data.index(b"\xff\xc0") + 1] = frame
    assert fail(bytes(data)).code in (ErrorCode.UNSUPPORTED, ErrorCode.DECODE_ERROR), name


def test_12_bit_jpeg_is_unsupported():
    data = bytearray(encoded(scene(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 1], data[frame + 4] = 0xC1, 12
    assert fail(bytes(data)).code is ErrorCode.UNSUPPORTED


def test_views_of_one_scene_are_noted_and_a_preview_is_not():
    file = bytearray(
        encoded(scene(), "MPO", save_all=True, append_images=[Image.fromarray(scene()).reduce(2)])
    )
    assert decode(bytes(file)).note == ""
    entries = file.index(struct.pack("<LL", 0x030000, file.index(b"\xff\xd9") + 2))
    for place in (entries, entries + 16):
        struct.pack_into("<L", file, place, 0x020002)  # disparity: a stereo pair
    assert decode(bytes(file)).note == "first of 2 frames"
    assert decode(bytes(file), page="first").note == ""


def test_lossless_kinds_are_unsupported():
    grey = np.ascontiguousarray(scene()[..., 0])
    for data in (imagecodecs.jpegls_encode(grey), imagecodecs.ljpeg_encode(grey.astype(np.uint16))):
        assert fail(data).code is ErrorCode.UNSUPPORTED


def test_a_second_picture_of_the_same_size_is_said_and_a_small_map_is_not():
    picture = Image.fromarray(scene())
    for other, note in ((picture.rotate(180), "first of 2 frames"), (picture.reduce(4), "")):
        assert decode(encoded(picture, "MPO", save_all=True, append_images=[other])).note == note
