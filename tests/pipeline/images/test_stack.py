"""stack.py: planes, projections, channels, series and times of microscopes' files."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from pictures_encoded import RECORD, decode, fail
from PIL import Image

from pipeline.images.decode import decode_image, decode_values, decode_with_values
from pipeline.images.preprocess import decode_through, make_chain
from pipeline.storage.storage import Storage
from schemas.config.images import ImagesConfig
from schemas.config.preprocess import PreprocessConfig
from schemas.records import ErrorCode, Failure, Sample

RNG = np.random.default_rng(7)
FULL: dict[str, Any] = {"stretch_16bit": "full"}


def values(*shape: int) -> np.ndarray:
    return RNG.integers(0, 65536, shape).astype(np.uint16)


def ome(array: np.ndarray, axes: str, **metadata: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, ome=True, metadata={"axes": axes, **metadata})
    return file.getvalue()


def imagej(array: np.ndarray, axes: str) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, imagej=True, metadata={"axes": axes})
    return file.getvalue()


def grey(plane: np.ndarray) -> np.ndarray:
    return np.repeat(np.rint(plane / 257).astype(np.uint8)[..., None], 3, axis=2)


STACK = values(5, 20, 30)


@pytest.mark.parametrize("write", [ome, imagej])
def test_a_z_stack_without_a_choice_is_its_first_plane_and_says_so(write):
    sample = decode(write(STACK, "ZYX"), **FULL)
    np.testing.assert_array_equal(sample.pixels, grey(STACK[0]))
    assert sample.note == "first of 5 planes of a z-stack"


@pytest.mark.parametrize("write", [ome, imagej])
@pytest.mark.parametrize("page", [1, 3, 5])
def test_a_plane_by_its_number(write, page):
    sample = decode(write(STACK, "ZYX"), page=page, **FULL)
    np.testing.assert_array_equal(sample.pixels, grey(STACK[page - 1]))
    assert sample.note == f"plane {page} of 5"


@pytest.mark.parametrize("write", [ome, imagej])
def test_projections(write):
    data = write(STACK, "ZYX")
    top = decode(data, projection="max", **FULL)
    np.testing.assert_array_equal(top.pixels, grey(STACK.max(axis=0)))
    assert top.note == "max of 5 planes of a z-stack"
    mean = decode_values(data, ImagesConfig(projection="mean"))
    assert not isinstance(mean, Failure)
    np.testing.assert_array_equal(mean[..., 0], np.rint(STACK.mean(axis=0)).astype(np.uint16))


def test_the_sharpest_plane_is_the_one_in_focus():
    import cv2

    scene = np.zeros((64, 64), np.float32)
    for y, x in ((16, 16), (16, 48), (44, 30)):
        cv2.circle(scene, (x, y), 7, 20_000.0, -1)
    planes = [cv2.GaussianBlur(scene, (0, 0), blur) for blur in (5, 3, 0.6, 2, 4)]
    data = imagej(np.stack(planes).astype(np.uint16), "ZYX")
    sample = decode(data, projection="sharpest", **FULL)
    np.testing.assert_array_equal(sample.pixels, grey(planes[2].astype(np.uint16)))
    assert sample.note == "sharpest of 5 planes of a z-stack: 3"


def test_channels_by_number_and_by_name():
    array = values(2, 20, 30)
    data = ome(array, "CYX", Channel={"Name": ["GFP", "DAPI"]})
    unasked = decode(data, **FULL)
    np.testing.assert_array_equal(unasked.pixels, grey(array[0]))
    assert unasked.note == "first of 2 channels"
    for name in (2, "DAPI", "dapi"):
        sample = decode(data, channels=[name], **FULL)
        np.testing.assert_array_equal(sample.pixels, grey(array[1]))
        assert sample.note == ""
    several = decode(data, channels=[2, 1, 1], **FULL)
    np.testing.assert_array_equal(several.pixels[..., 0], grey(array[1])[..., 0])
    np.testing.assert_array_equal(several.pixels[..., 2], grey(array[0])[..., 0])
    failure = fail(data, channels=["RFP"])
    assert failure.code is ErrorCode.UNSUPPORTED
    assert failure.message.endswith("no channel 'RFP', the image has 2 (GFP, DAPI)")


def test_all_channels_are_values_and_bands_can_choose_them():
    array = values(3, 20, 30)
    data = ome(array, "CYX")
    found = decode_values(data, ImagesConfig())
    assert not isinstance(found, Failure)
    np.testing.assert_array_equal(found, np.moveaxis(array, 0, -1))
    images = ImagesConfig(stretch_16bit="full")
    choose = PreprocessConfig.model_validate({"steps": [{"step": "bands", "choose": [2]}]})
    sample = decode_through(make_chain(choose, images, Storage()), data, RECORD, images)
    assert isinstance(sample, Sample)
    np.testing.assert_array_equal(sample.pixels, grey(array[1]))
    assert sample.note == ""


def test_a_chain_that_chooses_no_bands_sees_what_is_seen_without_one():
    data = ome(values(3, 20, 30), "CYX")
    images = ImagesConfig(stretch_16bit="full")
    plain = PreprocessConfig.model_validate({"steps": [{"step": "gamma", "gamma": 1.0}]})
    sample = decode_through(make_chain(plain, images, Storage()), data, RECORD, images)
    assert isinstance(sample, Sample)
    np.testing.assert_array_equal(sample.pixels, decode(data, **FULL).pixels)
    assert sample.note == "first of 3 channels"


@pytest.mark.parametrize("axes", ["TZCYX", "ZCTYX", "CTZYX"])
def test_every_axis_of_a_hyperstack(axes):
    array = values(2, 3, 4, 16, 18)
    sizes = dict(zip(axes, array.shape, strict=True))
    data = ome(array, axes)
    place = {"T": sizes["T"] - 1, "Z": sizes["Z"] - 1, "C": 1}
    plane = array[tuple(place[axis] for axis in axes[:3])]
    choice = {"time": sizes["T"], "page": sizes["Z"], "channels": [2]}
    np.testing.assert_array_equal(decode(data, **choice, **FULL).pixels, grey(plane))
    note = decode(data).note
    for part in (
        f"first of {sizes['Z']} planes of a z-stack",
        f"first of {sizes['T']} time points",
        f"first of {sizes['C']} channels",
    ):
        assert part in note


def test_time_points():
    array = values(4, 20, 30)
    data = imagej(array, "TYX")
    assert decode(data).note == "first of 4 time points"
    np.testing.assert_array_equal(decode(data, time=3, **FULL).pixels, grey(array[2]))
    np.testing.assert_array_equal(decode(data, page=3, **FULL).pixels, grey(array[2]))
    assert fail(data, time=5).message == "images.time = 5: the image has 4 time points"


def test_pages_that_nothing_names():
    array = values(4, 20, 30)
    file = io.BytesIO()
    tifffile.imwrite(file, array, photometric="minisblack", metadata=None)
    data = file.getvalue()
    assert decode(data).note == "first of 4 pages"
    np.testing.assert_array_equal(decode(data, page=4, **FULL).pixels, grey(array[3]))
    assert fail(data, page=5).message == "images.page = 5: there are 4 pages"
    assert fail(imagej(values(20, 30), "YX"), page=2).code is ErrorCode.UNSUPPORTED


def test_series_of_one_file():
    first, second = values(20, 30), values(16, 18)
    file = io.BytesIO()
    with tifffile.TiffWriter(file, ome=True) as writer:
        writer.write(first, metadata={"axes": "YX", "Name": "overview"})
        writer.write(second, metadata={"axes": "YX", "Name": "detail"})
    data = file.getvalue()
    assert decode(data).note == "first of 2 series"
    for series in (2, "detail"):
        sample = decode(data, series=series, **FULL)
        np.testing.assert_array_equal(sample.pixels, grey(second))
        assert sample.note == ""
    assert "there is no series 3" in fail(data, series=3).message


def test_a_page_chosen_first_is_a_choice():
    assert decode(imagej(STACK, "ZYX"), page="first").note == "plane 1 of 5"


def test_a_long_block_of_bytes_behind_one_page():
    """ImageJ writes stacks above 4 GiB so; every plane but the first has no page of its own."""
    file = io.BytesIO()
    tifffile.imwrite(file, STACK, imagej=True, metadata={"axes": "ZYX"})
    whole = file.getvalue()
    with tifffile.TiffFile(io.BytesIO(whole)) as opened:
        page: Any = opened.pages[0]
        end = page.offset + 2 + 12 * len(page.tags)
    cut = whole[:end] + bytes(4) + whole[end + 4 :]  # no page follows the first
    with tifffile.TiffFile(io.BytesIO(cut)) as opened:
        assert len(opened.pages) == 1
    np.testing.assert_array_equal(decode(cut, page=4, **FULL).pixels, grey(STACK[3]))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_frames_of_animations(kind):
    frames = [np.full((16, 20, 3), shade, np.uint8) for shade in (10, 120, 240)]
    file = io.BytesIO()
    made = [Image.fromarray(frame) for frame in frames]
    options = {"lossless": True} if kind == "WEBP" else {}
    made[0].save(file, kind, save_all=True, append_images=made[1:], **options)
    data = file.getvalue()
    assert decode(data).note == "first of 3 frames"
    second = decode(data, page=2)
    np.testing.assert_array_equal(second.pixels, frames[1])
    assert second.note == "frame 2 of 3"
    np.testing.assert_array_equal(decode(data, projection="max").pixels, frames[2])
    assert fail(data, page=4).code is ErrorCode.UNSUPPORTED


def test_values_and_pixels_for_the_price_of_one():
    array = values(2, 20, 30)
    found = decode_with_values(ome(array, "CYX"), RECORD, ImagesConfig(), every_band=False)
    assert not isinstance(found, Failure)
    np.testing.assert_array_equal(found[1][..., 0], array[0])
    assert found[1].shape == (20, 30, 1)


def test_a_channel_of_an_image_in_colour():
    pixels = RNG.integers(0, 256, (16, 20, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    sample = decode_image(file.getvalue(), RECORD, ImagesConfig(channels=(2,)))
    assert isinstance(sample, Sample)
    np.testing.assert_array_equal(sample.pixels[..., 0], pixels[..., 1])
    assert fail(file.getvalue(), channels=[4]).code is ErrorCode.UNSUPPORTED
