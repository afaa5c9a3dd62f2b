"""Pillow's own test pictures: read as one of four programs reads them, or a reason.

They are in Pillow's source archive, which the package index has; nothing of it is kept.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import PIL
import pytest
import tifffile
from pictures_encoded import RECORD
from PIL import Image, ImageOps

from pipeline.images.decode import decode_image, decode_values
from pipeline.images.sniff import DECODABLE, sniff
from schemas.config.images import ImagesConfig
from schemas.records import ErrorCode, Failure

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

CONFIG = ImagesConfig(stretch_16bit="full", max_pixels=20_000_000)
PROGRAMS = r"\b\w*(?:Error|Exception)\b|object has no|NoneType|Traceback| at 0x|unpack|argument"
"""Words of an exception that say nothing about a file."""
ANOTHER_ROUNDING = 1
"""Grey level between two builds of OpenJPEG."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pillow")
    wanted = f"pillow=={PIL.__version__}"
    fetch = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "pillow", wanted]
    try:
        subprocess.run([*fetch, "-q", "-d", folder], check=True, capture_output=True, timeout=180)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"needs a package index: {type(error).__name__}")
    return next(folder.glob("*.tar.gz"))


def pictures(archive: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(archive) as file:
        for member in file:
            _, found, name = member.name.partition("/Tests/images/")
            if found and member.isfile():
                opened = file.extractfile(member)
                assert opened is not None
                yield name, opened.read()


def peers(data: bytes) -> dict[str, np.ndarray]:
    """What each program reads, HxWxC."""
    found = {}
    try:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        deep = image.mode.startswith("I") or image.mode == "F"
        alpha = image.mode in ("RGBa", "La")
        found["Pillow"] = np.asarray(
            image if deep else (image.convert("RGBA") if alpha else image).convert("RGB")
        )
    except Exception:
        pass
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            values = page.asarray()
            found["tifffile"] = np.moveaxis(values, 0, -1) if page.axes == "SYX" else values
    except Exception:
        pass
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if pixels is not None:
        found["OpenCV"] = pixels[..., ::-1]
    with suppress(Exception):
        found["imagecodecs"] = np.asarray(imagecodecs.jpeg2k_decode(data))
    return {name: one if one.ndim == 3 else one[..., None] for name, one in found.items()}


def agree(ours: np.ndarray, theirs: np.ndarray, within: int) -> bool:
    bands = min(ours.shape[2], theirs.shape[2])
    if ours.shape[:2] != theirs.shape[:2]:
        return False
    one, two = (np.nan_to_num(side[..., :bands].astype(np.float64)) for side in (ours, theirs))
    return bool(np.abs(one - two).max(initial=0) <= within)


def test_every_picture_is_read_as_a_peer_reads_it_or_says_why_not(archive):
    read = refused = 0
    for name, data in pictures(archive):
        kind = sniff(data)
        if kind not in DECODABLE:
            continue
        found = decode_image(data, RECORD, CONFIG)
        if isinstance(found, Failure):
            refused += 1
            assert found.code in (
                ErrorCode.TRUNCATED,
                ErrorCode.DECODE_ERROR,
                ErrorCode.UNSUPPORTED,
                ErrorCode.TOO_LARGE,
            ), name
            assert not re.search(PROGRAMS, found.message), (name, found.message)
            continue
        read += 1
        values = decode_values(data, CONFIG)
        assert not isinstance(values, Failure), name
        theirs = peers(data)
        within = ANOTHER_ROUNDING if kind == "JPEG 2000" else 0
        same = [
            peer
            for peer, one in theirs.items()
            if agree(found.pixels, one, within) or agree(values, one, within)
        ]
        divided = "RGBa" in name  # Pillow and OpenCV leave 16 bits multiplied by alpha
        alone = not theirs or kind == "HEIC" or found.note == "end marker missing"
        assert same or divided or alone, (name, found.note)
    assert read > 600
    assert refused < 70
