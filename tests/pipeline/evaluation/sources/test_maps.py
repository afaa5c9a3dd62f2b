import io

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from pipeline.evaluation.sources.maps import read_id_map, read_map


def png(array):
    return cv2.imencode(".png", array)[1].tobytes()


def tiff(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("write", [png, tiff])
def test_grey_pictures(kind, write):
    values = np.arange(12, dtype=kind).reshape(3, 4) * (20 if kind == np.uint8 else 5000)
    assert np.array_equal(read_map(write(values), "x"), values)


def test_tiff_of_32_bits_and_compressed():
    values = np.arange(12, dtype=np.uint32).reshape(3, 4) * 100_000
    assert np.array_equal(read_map(tiff(values, compression="zlib"), "x"), values)
    assert np.array_equal(read_map(tiff(values[None], photometric="minisblack"), "x"), values)


def test_palette_png_gives_its_indices():
    picture = Image.fromarray(np.array([[0, 3], [7, 1]], np.uint8), "P")
    picture.putpalette(list(range(200, 224)))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    assert read_map(buffer.getvalue(), "x").tolist() == [[0, 3], [7, 1]]


def test_one_bit_png():
    buffer = io.BytesIO()
    Image.fromarray(np.array([[True, False], [False, True]])).save(buffer, "PNG")
    assert np.count_nonzero(read_map(buffer.getvalue(), "x")) == 2


def test_id_maps_are_red_plus_256_green_plus_65536_blue():
    rgb = np.array([[[1, 2, 3], [255, 255, 255]]], np.uint8)
    assert read_id_map(png(rgb[:, :, ::-1]), "x").tolist() == [[1 + 512 + 196608, 16777215]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "x is empty"),
        (b"no picture", "x is no readable picture"),
        (b"II*\0nonsense", "x is no readable TIFF"),
        (png(np.zeros((2, 2, 3), np.uint8)), "no map of numbers: it has shape"),
        (tiff(np.zeros((2, 2), np.float32)), "type float32"),
    ],
)
def test_what_is_no_map(data, message):
    with pytest.raises(ValueError, match=message):
        read_map(data, "x")
