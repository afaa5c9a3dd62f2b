"""dicom.py: windows, MONOCHROME1, frames, colours, compressed pixels, as the standard says."""

from __future__ import annotations

import io
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from pictures_encoded import decode, fail, scene
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
)

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


SHALLOW = RNG.integers(0, 64, (20, 30)).astype(np.uint8)


def test_bits_that_are_not_stored_do_not_make_it_dark():
    pixels = decode(write(SHALLOW, BitsStored=6, HighBit=5)).pixels[..., 0]
    np.testing.assert_array_equal(pixels, np.rint(SHALLOW * (255 / 63)))


@pytest.mark.parametrize("frames", [1, 2])
def test_a_segmentation_of_one_bit_is_black_and_white(frames):
    bits = RNG.integers(0, 2, (frames, 20, 30)).astype(np.uint8)
    packed = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    tags = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}
    data = write(bits if frames > 1 else bits[0], **tags)
    file = pydicom.dcmread(io.BytesIO(data))
    file.PixelData = packed + b"\0" * (len(packed) % 2)
    out = io.BytesIO()
    file.save_as(out)
    shown = decode(out.getvalue(), page=frames).pixels[..., 0]
    np.testing.assert_array_equal(shown, bits[-1] * 255)


def test_the_functions_of_windows():
    units = CT.astype(float)
    for name, share in (
        ("SIGMOID", 1 / (1 + np.exp(-4 * (units - 2000) / 900))),
        ("LINEAR_EXACT", (units - 2000) / 900 + 0.5),
    ):
        data = write(CT, WindowCenter=2000, WindowWidth=900, VOILUTFunction=name)
        expected = np.rint(np.clip(share, 0, 1) * 255)
        np.testing.assert_array_equal(decode(data).pixels[..., 0], expected)


@pytest.mark.parametrize("bits", [8, 12])
def test_a_table_of_values_of_interest(bits):
    entries = np.arange(4096)[::-1] >> (12 - bits)
    table = Dataset()
    table.add_new(0x00283002, "US", [4096, 0, bits])
    table.add_new(0x00283006, "OW", entries.astype(np.uint8 if bits == 8 else "<u2").tobytes())
    shown = decode(write(CT, VOILUTSequence=Sequence([table]))).pixels[..., 0]
    np.testing.assert_array_equal(shown, np.rint(entries[CT] / ((1 << bits) - 1) * 255))


@pytest.mark.parametrize("shared", [False, True])
def test_groups_say_what_frames_mean(shared):
    frames = np.stack((CT, CT[::-1]))

    def group(slope: int, center: int) -> Dataset:
        meaning, window_of, one = Dataset(), Dataset(), Dataset()
        meaning.RescaleSlope, meaning.RescaleIntercept = slope, -1000
        window_of.WindowCenter, window_of.WindowWidth = center, 900
        one.PixelValueTransformationSequence = Sequence([meaning])
        one.FrameVOILUTSequence = Sequence([window_of])
        return one

    if shared:
        tags = {"SharedFunctionalGroupsSequence": Sequence([group(3, 40)])}
    else:
        tags = {"PerFrameFunctionalGroupsSequence": Sequence([group(2, 10), group(3, 40)])}
    data = write(frames, **tags)
    values = decode_values(data, ImagesConfig(page=2))
    units = CT[::-1].astype(int) * 3 - 1000
    np.testing.assert_array_equal(np.asarray(values)[..., 0], units)
    shown = decode(data, page=2).pixels[..., 0]
    np.testing.assert_array_equal(shown, window(units, 40, 900))


def test_jpeg_in_red_green_and_blue_that_only_dicom_tells_of():
    color = np.kron(RNG.integers(0, 256, (2, 3, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    body = imagecodecs.jpeg8_encode(color, 98, colorspace="RGB", outcolorspace="RGB")
    at = body.index(b"\xff\xee")
    plain = bytearray(body[:at] + body[at + 16 :])  # without Adobe's marker
    for mark, first, step in ((b"\xff\xc0", 10, 3), (b"\xff\xda", 5, 2)):
        start = plain.index(mark)
        for number in range(3):
            plain[start + first + step * number] = number + 1
    file = pydicom.dcmread(io.BytesIO(write(color)))
    file.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    file.PixelData = encapsulate([bytes(plain)])
    file["PixelData"].VR = "OB"
    out = io.BytesIO()
    file.save_as(out)
    assert np.abs(decode(out.getvalue()).pixels.astype(int) - color).max() < 6
