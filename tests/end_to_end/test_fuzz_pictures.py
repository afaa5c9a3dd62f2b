"""Damaged pictures of every kind that is decoded: pixels or a reason, never a crash.

`support/fuzz.py` says how much is tried; the seeds that once broke something stand as examples.
"""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pillow_heif
import pydicom
import pytest
import tifffile
from fuzz import EDITS, edited, tries
from hypothesis import given
from hypothesis import strategies as st
from pictures_encoded import encoded, scene
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from pipeline.images.decode import decode_image, decode_values
from pipeline.images.sniff import DECODABLE
from schemas.config.job import ImagesConfig
from schemas.records import Failure, ImageRecord, Sample

pytestmark = pytest.mark.usefixtures("little_memory")
LIMIT = 10**6


def heic() -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(scene())).save(file)
    return file.getvalue()


def dicom() -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    about: dict[str, Any] = {"Rows": 20, "Columns": 30, "SamplesPerPixel": 1}
    about |= {"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0}
    about |= {"PhotometricInterpretation": "MONOCHROME2", "NumberOfFrames": 2}
    about |= {"WindowCenter": 40, "WindowWidth": 400, "PixelData": bytes(2 * 2 * 20 * 30)}
    for name, value in about.items():
        setattr(data, name, value)
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def tiff(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


@cache
def sound() -> dict[str, list[bytes]]:
    """Whole files of every kind."""
    rgb, deep = scene(), scene()[..., 0].astype(np.uint16) * 200
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "JPEG": [
            encoded(rgb, "JPEG", exif=turned),
            encoded(rgb, "JPEG", progressive=True),
            encoded(Image.fromarray(rgb).convert("CMYK"), "JPEG"),
        ],
        "PNG": [
            encoded(rgb, "PNG"),
            encoded(deep, "PNG"),
            cv2.imencode(".png", np.stack([deep] * 3, 2))[1].tobytes(),
            encoded(Image.fromarray(rgb).convert("P"), "PNG", transparency=3),
        ],
        "WEBP": [encoded(rgb, "WEBP"), encoded(rgb, "WEBP", lossless=True)],
        "TIFF": [
            tiff(rgb, compression="lzw", predictor=True),
            tiff(deep, tile=(16, 16), compression="zlib"),
            tiff(np.stack([deep] * 3), bigtiff=True, imagej=False, photometric="minisblack"),
            tiff(rgb, compression="jpeg"),
        ],
        "BMP": [encoded(rgb, "BMP")],
        "GIF": [encoded(rgb, "GIF")],
        "AVIF": [encoded(rgb, "AVIF")],
        "HEIC": [heic()],
        "JPEG 2000": [
            imagecodecs.jpeg2k_encode(rgb, level=0, codecformat="jp2"),
            imagecodecs.jpeg2k_encode(deep, level=0, codecformat="j2k"),
        ],
        "JPEG XL": [
            imagecodecs.jpegxl_encode(rgb, lossless=True),
            imagecodecs.jpegxl_encode(rgb, usecontainer=True),
        ],
        "DICOM": [dicom()],
    }


def test_every_kind_has_whole_files_to_damage():
    assert sound().keys() == set(DECODABLE)
    for kind, files in sound().items():
        for data in files:
            found = decode_image(data, ImageRecord("a", ""), ImagesConfig())
            assert isinstance(found, Sample), (kind, found)
            assert found.image_format == kind


@pytest.mark.parametrize("kind", DECODABLE)
@tries(40)
@given(data=st.data())
def test_a_picture_with_any_bytes(kind: str, data: st.DataObject) -> None:
    made = edited(data.draw(st.sampled_from(sound()[kind])), data.draw(EDITS))
    limits = ImagesConfig(max_pixels=LIMIT)
    found = decode_image(made, ImageRecord("a", ""), limits)
    assert isinstance(found, Sample | Failure)
    if isinstance(found, Sample):
        assert found.pixels.shape[0] * found.pixels.shape[1] <= LIMIT
        assert found.pixels.dtype == np.uint8
        assert found.pixels.shape[2] == 3
    else:
        assert found.message
        assert "\n" not in found.message
    values = decode_values(made, limits)
    assert isinstance(values, Failure) == isinstance(found, Failure)
