"""dicom.py: windows, MONOCHROME1, frames, colours, compressed pixels, as the standard says."""

from __future__ import annotations

import io
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from pictures_encoded import decode, fail, scene
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless

from pipeline.images.decode import decode_values
from schemas.config.images import ImagesConfig
from schemas.records import ErrorCode, Failure

RNG = np.random.default_rng(4)
CT = RNG.integers(0, 4096, (20, 30)).astype(np.uint16)


def write(values: np.ndarray, *, syntax: Any = ExplicitVRLittleEndian, **tags: Any) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    color = values.ndim > 2 and values.shape[-1] == 3
    frames = values.shape[0] if values.ndim - color > 2 else 1
    data.Rows, data.Columns = values.shape[-3:-1] if color else values.shape[-2:]
    data.SamplesPerPixel = 3 if color else 1
    data.PhotometricInterpretation = "RGB" if color else "MONOCHROME2"
    if color:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = values.dtype.itemsize * 8
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    if frames > 1:
        data.NumberOfFrames = frames
    for name, value in tags.items():
        setattr(data, name, value)
    if syntax == ExplicitVRLittleEndian:
        data.PixelData = values.tobytes()
    else:
        codec = {
            JPEG2000Lossless: lambda x: imagecodecs.jpeg2k_encode(x, level=0, codecformat="j2k"),
            JPEGLSLossless: imagecodecs.jpegls_encode,
            JPEGLosslessSV1: imagecodecs.ljpeg_encode,
        }[syntax]
        parts = values if frames > 1 else values[None]
        data.PixelData = encapsulate([codec(one) for one in parts])
        data["PixelData"].VR = "OB"
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def window(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """PS3.3, C.11.2.1.2.1, as it stands there."""
    low, high = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
    shown = ((values - (center - 0.5)) / (width - 1) + 0.5) * 255
    return np.where(values <= low, 0, np.where(values > high, 255, np.rint(shown)))


def test_the_files_window_shows_modality_values():
    data = write(CT, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400)
    sample = decode(data)
    assert sample.image_format == "DICOM"
    units = CT.astype(int) - 1024
    np.testing.assert_array_equal(sample.pixels[..., 0], window(units, 40, 400))
    values = decode_values(data, ImagesConfig())
    assert not isinstance(values, Failure)
    np.testing.assert_array_equal(values[..., 0], units)


def test_the_first_of_several_windows_is_noted():
    sample = decode(write(CT, WindowCenter=[600, 40], WindowWidth=[900, 400]))
    np.testing.assert_array_equal(sample.pixels[..., 0], window(CT.astype(int), 600, 900))
    assert sample.note == "window 1 of 2"


def test_without_a_window_values_are_stretched():
    pixels = decode(write(CT)).pixels
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert (np.diff(pixels[..., 0].reshape(-1)[np.argsort(CT, axis=None)].astype(int)) >= 0).all()


def test_monochrome1_is_white_where_it_is_0():
    plain = decode(write(CT, WindowCenter=2000, WindowWidth=3000)).pixels
    data = write(CT, WindowCenter=2000, WindowWidth=3000, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(decode(data).pixels, 255 - plain)


def test_signed_values():
    values = (CT.astype(np.int32) - 2000).astype(np.int16)
    found = decode_values(write(values), ImagesConfig())
    np.testing.assert_array_equal(np.asarray(found)[..., 0], values)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless])
def test_frames_are_pages(syntax):
    frames = RNG.integers(0, 65536, (3, 20, 30)).astype(np.uint16)
    data = write(frames, syntax=syntax)
    assert decode(data).note == "first of 3 frames"
    for page in (1, 2, 3):
        found = decode_values(data, ImagesConfig(page=page))
        np.testing.assert_array_equal(np.asarray(found)[..., 0], frames[page - 1])
    top = decode_values(data, ImagesConfig(projection="max"))
    np.testing.assert_array_equal(np.asarray(top)[..., 0], frames.max(axis=0))
    assert fail(data, page=4).code is ErrorCode.UNSUPPORTED


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1])
def test_compressed_pixels(syntax):
    found = decode_values(write(CT, syntax=syntax), ImagesConfig())
    np.testing.assert_array_equal(np.asarray(found)[..., 0], CT)


def test_colours():
    np.testing.assert_array_equal(decode(write(scene())).pixels, scene())


def test_what_is_missing_is_said():
    assert fail(write(CT)[:-100]).code is ErrorCode.TRUNCATED
    whole = pydicom.dcmread(io.BytesIO(write(CT)))
    del whole.PixelData
    file = io.BytesIO()
    pydicom.dcmwrite(file, whole, enforce_file_format=True)
    assert fail(file.getvalue()).message == "DICOM: the pixels are missing"
    del whole.Rows
    file = io.BytesIO()
    pydicom.dcmwrite(file, whole, enforce_file_format=True)
    assert fail(file.getvalue()).message == "DICOM: the file holds no image"
    assert fail(write(CT), max_pixels=599).code is ErrorCode.TOO_LARGE


def test_without_its_extra_it_says_what_to_install(monkeypatch):
    data = write(CT)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    assert fail(data) == Failure(ErrorCode.UNSUPPORTED, "DICOM: install maskmill[dicom] to read it")
