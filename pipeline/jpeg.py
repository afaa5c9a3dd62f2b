"""JPEG through libjpeg-turbo: fast, scaled in the DCT on demand, and strict about missing data."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import simplejpeg
from PIL import JpegImagePlugin

from schemas.config import ImagesConfig
from schemas.records import ErrorCode

from .picture import (
    Picture,
    Pixels,
    UndecodableError,
    check_size,
    exif_orientation,
    from_pillow,
)

_PADDING = 16  # bytes some cameras put before the end marker; more means lost synchronisation


def decode_jpeg(data: bytes, config: ImagesConfig, min_side: int | None) -> Picture:
    """Decodes a JPEG, at 1/2, 1/4 or 1/8 of its size where `min_side` allows.

    Raises:
        UndecodableError: The file is cut, corrupt, too large or of an unsupported process.
    """
    try:
        rows, columns, colors, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except ValueError:
        return _decode_odd(data, config)
    height, width = int(rows), int(columns)
    check_size(height, width, config)
    orientation, notes = _orientation(data)
    cmyk = colors in ("CMYK", "YCCK")
    options: dict[str, Any] = {"colorspace": "CMYK" if cmyk else "RGB"}
    if min_side is not None:
        factor = 8
        while factor > 1 and -(-min(height, width) // factor) < min_side:
            factor //= 2
        if factor > 1:
            small = {"min_height": -(-height // factor), "min_width": -(-width // factor)}
            options |= small
    pixels, warning = _turbo(data, options)
    if cmyk:
        pixels = _cmyk_to_rgb(pixels)
    return Picture(pixels, (height, width), orientation, (*notes, warning) if warning else notes)


def _turbo(data: bytes, options: dict[str, Any]) -> tuple[Pixels, str]:
    """Decodes strictly; returns pixels and a note, or says whether pixels are missing or wrong."""
    pixels, warning = _strict(data, options)
    cut = "Premature end of JPEG file" in warning
    if cut:  # if only the end marker is missing, nothing else will be amiss
        data += b"\xff\xd9"
        pixels, warning = _strict(data, options)
    if pixels is not None:
        return pixels, "end marker missing" if cut else ""
    if cut:
        raise UndecodableError(ErrorCode.TRUNCATED, "JPEG: the file ends inside the picture")
    if not _is_harmless(warning):
        raise UndecodableError(ErrorCode.DECODE_ERROR, f"JPEG: {warning}")
    try:
        return simplejpeg.decode_jpeg(data, strict=False, **options), warning
    except ValueError as error:
        raise UndecodableError(ErrorCode.DECODE_ERROR, f"JPEG: {error}") from None


def _strict(data: bytes, options: dict[str, Any]) -> tuple[Pixels | None, str]:
    try:
        return simplejpeg.decode_jpeg(data, **options), ""
    except ValueError as error:
        return None, str(error)


def _is_harmless(warning: str) -> bool:
    """Whether libjpeg's (last) warning leaves the pixels whole."""
    stray = re.search(r"(\d+) extraneous bytes before marker 0x(..)", warning)
    if not stray:
        return "Corrupt JPEG data" not in warning or "ICC" in warning
    marker = int(stray[2], 16)
    if 0xD0 <= marker <= 0xD7:  # restart markers stand inside the pixels
        return False
    return marker != 0xD9 or int(stray[1]) <= _PADDING


def _orientation(data: bytes) -> tuple[int, tuple[str, ...]]:
    try:
        header = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    except Exception:  # Pillow is stricter about metadata than libjpeg
        return 1, ("metadata unreadable, taken as upright",)
    return exif_orientation(header)


def _decode_odd(data: bytes, config: ImagesConfig) -> Picture:
    """What the fast binding refuses, such as unusual chroma subsampling."""
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    check_size(image.height, image.width, config)
    image.load()
    return from_pillow(image, *exif_orientation(image))


def _cmyk_to_rgb(inverted: Pixels) -> Pixels:
    """R = C′·K′ / 255 rounded, as Pillow converts; JPEG holds CMYK inverted (Adobe's habit)."""
    inks = inverted.astype(np.uint16)
    product = inks[..., :3] * inks[..., 3:] + 128
    return ((product + (product >> 8)) >> 8).astype(np.uint8)
