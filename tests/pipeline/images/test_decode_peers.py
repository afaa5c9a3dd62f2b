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

from pipeline.images.decode import decode_with_values
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
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


def of_pillow(data: bytes) -> np.ndarray:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    deep = image.mode.startswith("I") or image.mode == "F"
    alpha = image.mode in ("RGBa", "La")
    return np.asarray(image if deep else (image.convert("RGBA") if alpha else image).convert("RGB"))


def of_tifffile(data: bytes) -> np.ndarray:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        values = page.asarray()
        return np.moveaxis(values, 0, -1) if page.axes == "SYX" else values


def of_opencv(data: bytes) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(pixels)[..., ::-1]


PEERS = (of_pillow, of_tifffile, of_opencv, imagecodecs.jpeg2k_decode)


def readings(data: bytes) -> Iterator[np.ndarray]:
    """What each program reads, HxWxC, one after the other."""
    for read in PEERS:
        with suppress(Exception):
            yield np.atleast_3d(read(data))


def agree(ours: np.ndarray, theirs: np.ndarray, within: int) -> bool:
    bands = min(ours.shape[2], theirs.shape[2])
    one, two = ours[..., :bands], theirs[..., :bands]
    if one.shape != two.shape:
        return False
    if within == 0 or one.dtype != np.uint8:
        return bool(np.array_equal(one, two, equal_nan=one.dtype.kind == two.dtype.kind == "f"))
    return bool(cv2.absdiff(one, np.ascontiguousarray(two, np.uint8)).max(initial=0) <= within)


def test_every_picture_is_read_as_a_peer_reads_it_or_says_why_not(archive):
    read = refused = 0
    for name, data in pictures(archive):
        kind = sniff(data)
        if kind not in DECODABLE:
            continue
        both = decode_with_values(data, RECORD, CONFIG)
        if isinstance(both, Failure):
            refused += 1
            assert both.code in (
                ErrorCode.TRUNCATED,
                ErrorCode.DECODE_ERROR,
                ErrorCode.UNSUPPORTED,
                ErrorCode.TOO_LARGE,
            ), name
            assert not re.search(PROGRAMS, both.message), (name, both.message)
            continue
        read += 1
        found, values = both
        upper = kind == "PNG" and data[24] == 16  # of 16 bits Pillow keeps the upper 8
        within = ANOTHER_ROUNDING if kind == "JPEG 2000" else int(upper)
        same = any(
            agree(found.pixels, theirs, within) or agree(values, theirs, within)
            for theirs in readings(data)
        )
        divided = "RGBa" in name  # Pillow and OpenCV leave 16 bits multiplied by alpha
        alone = (
            kind == "HEIC"
            or found.note == "end marker missing"
            or not any(True for _ in readings(data))
        )
        assert same or divided or alone, (name, found.note)
    assert read > 600
    assert refused < 70
