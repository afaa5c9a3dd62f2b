"""One decoder a file format: bytes → RGB as stored, before any rotation."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import cv2
import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    PngImagePlugin,
    WebPImagePlugin,
)

from schemas.config import ImagesConfig
from schemas.records import ErrorCode

from .jpeg import decode_jpeg
from .picture import (
    Picture,
    UndecodableError,
    check_size,
    exif_orientation,
    from_deep,
    from_pillow,
)
from .sniff import is_cut
from .tiff import decode_tiff

# A format's class itself, not Image.open, which would guess the format again.
_Plugin = Callable[[io.BytesIO], ImageFile.ImageFile]
Decoder = Callable[[bytes, ImagesConfig, int | None], Picture]


def decode_png(data: bytes, config: ImagesConfig, min_side: int | None) -> Picture:
    """PNG; 16-bit colour through OpenCV, since Pillow keeps only its upper 8 bits.

    Raises:
        UndecodableError: Too large, or broken 16-bit data.
    """
    depth, color_type = data[24:26]
    if depth < 16 or color_type == 0:
        return decode_with(PngImagePlugin.PngImageFile)(data, config, min_side)
    image = PngImagePlugin.PngImageFile(io.BytesIO(data))
    check_size(image.height, image.width, config)
    image.load()  # strict about missing data; and EXIF may stand behind the pixels
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise UndecodableError(ErrorCode.DECODE_ERROR, "PNG: broken 16-bit data")
    orientation, notes = exif_orientation(image)
    if pixels.shape[2] == 4 and pixels[..., 3].min() < 65535:
        notes += ("alpha dropped",)
    return from_deep(pixels[..., 2::-1], orientation, notes, config)


def decode_with(plugin: _Plugin) -> Decoder:
    """A decoder that leaves everything to one of Pillow's format classes."""

    def decode(data: bytes, config: ImagesConfig, min_side: int | None) -> Picture:
        image = plugin(io.BytesIO(data))
        check_size(image.height, image.width, config)
        frames = _frame_count(image)
        notes = (f"first of {frames} frames",) if frames > 1 else ()
        image.load()
        orientation, more = exif_orientation(image)
        if image.mode.startswith("I"):  # 16-bit grey
            return from_deep(np.asarray(image), orientation, notes + more, config)
        return from_pillow(image, orientation, notes + more)

    return decode


DECODERS: dict[str, Decoder] = {
    "JPEG": decode_jpeg,
    "PNG": decode_png,
    "TIFF": decode_tiff,
    "WEBP": decode_with(WebPImagePlugin.WebPImageFile),
    "BMP": decode_with(BmpImagePlugin.BmpImageFile),
    "GIF": decode_with(GifImagePlugin.GifImageFile),
    "AVIF": decode_with(AvifImagePlugin.AvifImageFile),
}
"""Kind as `sniff` names it → decoder(data, config, min_side)."""


def explain(kind: str, error: Exception, data: bytes) -> UndecodableError:
    """Turns whatever a library raised into a reason: cut short, unsupported or corrupt."""
    if is_cut(kind, data) or re.search("truncated", str(error), re.IGNORECASE):
        return UndecodableError(ErrorCode.TRUNCATED, f"{kind}: the file ends inside the picture")
    known = re.search("cannot handle|not support|unsupported|unknown pixel mode", str(error), re.I)
    code = ErrorCode.UNSUPPORTED if known else ErrorCode.DECODE_ERROR
    return UndecodableError(code, f"{kind}: {error or type(error).__name__}")


def _frame_count(image: ImageFile.ImageFile) -> int:
    try:
        count = int(getattr(image, "n_frames", 1))
        image.seek(0)
    except Exception:  # a later frame is broken; the first is what counts
        return 1
    return count
