"""Pictures as files in memory, for the tests of decoding."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from pipeline.images.decode import decode_image
from schemas.config.job import ImagesConfig
from schemas.records import Failure, ImageRecord, Sample

RECORD = ImageRecord("a/b.dat", "/in/a/b.dat")


def scene(height: int = 48, width: int = 65) -> np.ndarray:
    """HxWx3 uint8 without any symmetry: smooth ramps, one bright block near the top left."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack((x * 255 // width, y * 255 // height, (x + y) * 127 // (height + width)), -1)
    rgb[4:12, 6:20] = (250, 240, 30)
    return rgb.astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    """The bytes of a file of Pillow's format `kind`."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        file, kind, **options
    )
    return file.getvalue()


def decode(data: bytes, *, min_side: int | None = None, **config: Any) -> Sample:
    """Decodes what must be decodable."""
    result = decode_image(data, RECORD, ImagesConfig(**config), min_side=min_side)
    assert isinstance(result, Sample), result
    assert result.record is RECORD
    assert result.pixels.dtype == np.uint8
    assert result.pixels.ndim == 3
    assert result.pixels.shape[2] == 3
    assert result.pixels.flags.c_contiguous
    return result


def fail(data: bytes, **config: Any) -> Failure:
    """Decodes what must not be decodable; twice, for messages must not change."""
    results = [decode_image(data, RECORD, ImagesConfig(**config)) for _ in range(2)]
    assert isinstance(results[0], Failure), results[0]
    assert results[0] == results[1]
    assert results[0].message
    assert "\n" not in results[0].message
    assert " at 0x" not in results[0].message
    return results[0]
