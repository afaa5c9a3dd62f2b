"""JPEG through libjpeg-turbo: fast, scaled in the DCT on demand, and strict about missing data."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import simplejpeg
from PIL import JpegImagePlugin

from schemas.config.job import ImagesConfig
from schemas.records import ErrorCode

from .decoded import Decoded, Pixels, UndecodableError, check_size, exif_orientation, from_pillow
from .sniff import is_cut

_UNKNOWN = ("Unsupported JPEG process", "Unsupported JPEG data precision")
_REMARKS = (
    "Invalid SOS parameters for sequential JPEG",
    "Unknown Adobe color transform code",
    "Warning: unknown JFIF revision number",
    "Corrupt JPEG data: bad ICC marker",
)
_PADDING = 16  # bytes some cameras put before the end marker; more means lost synchronisation


def decode_jpeg(data: bytes, config: ImagesConfig, min_side: int | None) -> Decoded:
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
    pixels, warning = _strict(data, options)
    if pixels is None and is_cut("JPEG", data):
        pixels, _ = _strict(data + b"\xff\xd9", options)
        if pixels is None:  # more is missing than the end marker
            raise UndecodableError(ErrorCode.TRUNCATED, "JPEG: the file ends inside the picture")
        warning = "end marker missing"
    if pixels is None:
        return _decode_doubtful(data, config, warning)
    if cmyk:
        pixels = _cmyk_to_rgb(pixels)
    return Decoded(pixels, (height, width), orientation, (*notes, warning) if warning else notes)


def _strict(data: bytes, options: dict[str, Any]) -> tuple[Pixels | None, str]:
    # strict=False would let pass not only warnings but fatal errors, and return grey pixels.
    try:
        return simplejpeg.decode_jpeg(data, **options), ""
    except ValueError as error:
        return None, str(error)


def _decode_doubtful(data: bytes, config: ImagesConfig, warning: str) -> Decoded:
    """Decodes with Pillow what libjpeg warned of, if the (last) warning leaves the pixels whole."""
    if warning.startswith(_UNKNOWN):
        raise UndecodableError(ErrorCode.UNSUPPORTED, f"JPEG: {warning}")
    stray = re.search(r"(\d+) extraneous bytes before marker 0x(..)", warning)
    marker = int(stray[2], 16) if stray else 0
    harmless = warning.startswith(_REMARKS) or (
        stray is not None
        and not 0xD0 <= marker <= 0xD7  # restart markers stand inside the pixels
        and (marker != 0xD9 or int(stray[1]) <= _PADDING)
    )
    if not harmless:
        raise UndecodableError(ErrorCode.DECODE_ERROR, f"JPEG: {warning}")
    picture = _decode_odd(data, config)
    return replace(picture, notes=(*picture.notes, warning))


def _orientation(data: bytes) -> tuple[int, tuple[str, ...]]:
    try:
        header = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    except Exception:  # Pillow is stricter about metadata than libjpeg
        return 1, ("metadata unreadable, taken as upright",)
    return exif_orientation(header)


def _decode_odd(data: bytes, config: ImagesConfig) -> Decoded:
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
