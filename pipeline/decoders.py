"""One decoder a file format: bytes → RGB as stored, before any rotation."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from schemas.config import ImagesConfig
from schemas.records import ErrorCode

from .sniff import is_cut
from .stretch import stretch

Pixels = npt.NDArray[np.uint8]

_ORIENTATION = 0x0112
_PADDING = 16  # bytes some cameras put before the end marker; more means lost synchronisation
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


class UndecodableError(Exception):
    """An image that cannot be decoded, and why."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Picture:
    """Decoded pixels.

    Attributes:
        pixels: HWC uint8 RGB, as stored (not rotated), possibly scaled down.
        stored_hw: (height, width) in the file.
        orientation: EXIF orientation, 1…8.
        notes: What was dropped or assumed.
    """

    pixels: Pixels
    stored_hw: tuple[int, int]
    orientation: int
    notes: tuple[str, ...] = ()


def decode_jpeg(data: bytes, config: ImagesConfig, min_side: int | None) -> Picture:
    """JPEG through libjpeg-turbo, scaled in the DCT where `min_side` allows.

    Raises:
        UndecodableError: The file is cut, corrupt or too large.
    """
    try:
        rows, columns, colors, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except ValueError:
        return _decode_odd_jpeg(data, config)
    height, width = int(rows), int(columns)
    _check_size(height, width, config)
    orientation, notes = _jpeg_orientation(data)
    cmyk = colors in ("CMYK", "YCCK")
    options: dict[str, Any] = {"colorspace": "CMYK" if cmyk else "RGB"}
    if min_side is not None:
        options |= {"min_height": min_side, "min_width": min_side, "min_factor": 2}
    pixels, warning = _turbo(data, options)
    if cmyk:
        pixels = _cmyk_to_rgb(pixels)
    notes += (warning,) if warning else ()
    return Picture(pixels, (height, width), orientation, notes)


def decode_png(data: bytes, config: ImagesConfig, min_side: int | None) -> Picture:
    """PNG; 16-bit colour through OpenCV, since Pillow keeps only its upper 8 bits."""
    image = _open(PngImagePlugin.PngImageFile, data, config)
    depth, color_type = data[24], data[25]
    if depth < 16 or color_type == 0:
        return _finish(image, config)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise UndecodableError(ErrorCode.DECODE_ERROR, "PNG: broken 16-bit data")
    bands = _bands(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]], alpha=color_type in (4, 6))
    image.load()  # reads the chunks behind the pixels: EXIF may stand there
    return _deep(bands[0], image, config, notes=bands[1])


def decode_with(
    plugin: Callable[[io.BytesIO], ImageFile.ImageFile],
) -> Callable[[bytes, ImagesConfig, int | None], Picture]:
    """A decoder that leaves everything to one of Pillow's format classes."""

    def decode(data: bytes, config: ImagesConfig, min_side: int | None) -> Picture:
        return _finish(_open(plugin, data, config), config)

    return decode


def decode_tiff(data: bytes, config: ImagesConfig, min_side: int | None) -> Picture:
    """TIFF's first page."""
    return _finish(_open(TiffImagePlugin.TiffImageFile, data, config), config)


DECODERS: dict[str, Callable[[bytes, ImagesConfig, int | None], Picture]] = {
    "JPEG": decode_jpeg,
    "PNG": decode_png,
    "TIFF": decode_tiff,
    "WEBP": decode_with(WebPImagePlugin.WebPImageFile),
    "BMP": decode_with(BmpImagePlugin.BmpImageFile),
    "GIF": decode_with(GifImagePlugin.GifImageFile),
    "AVIF": decode_with(AvifImagePlugin.AvifImageFile),
}
"""Kind as `sniff` names it → decoder(data, config, min_side)."""


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


def _jpeg_orientation(data: bytes) -> tuple[int, tuple[str, ...]]:
    try:
        header = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    except Exception:  # Pillow is stricter about metadata than libjpeg
        return 1, ("metadata unreadable, taken as upright",)
    return _orientation(header)


def _decode_odd_jpeg(data: bytes, config: ImagesConfig) -> Picture:
    """What the fast binding refuses, such as unusual chroma subsampling."""
    return _finish(_open(JpegImagePlugin.JpegImageFile, data, config), config)


def _cmyk_to_rgb(inverted: Pixels) -> Pixels:
    """Adobe stores CMYK inverted, and so does everybody: R = C′·K′ / 255, as Pillow converts."""
    inks = inverted.astype(np.uint16)
    product = inks[..., :3] * inks[..., 3:] + 128
    return ((product + (product >> 8)) >> 8).astype(np.uint8)


def _open(
    plugin: Callable[[io.BytesIO], ImageFile.ImageFile], data: bytes, config: ImagesConfig
) -> ImageFile.ImageFile:
    # The class itself, not Image.open: that one adds a process-wide pixel limit of its own.
    image = plugin(io.BytesIO(data))
    _check_size(image.height, image.width, config)
    return image


def _check_size(height: int, width: int, config: ImagesConfig) -> None:
    if height * width > config.max_pixels:
        raise UndecodableError(
            ErrorCode.TOO_LARGE,
            f"{width} × {height} pixels are more than images.max_pixels = {config.max_pixels}",
        )


def _finish(image: ImageFile.ImageFile, config: ImagesConfig) -> Picture:
    notes: tuple[str, ...] = ()
    if (frames := _frame_count(image)) > 1:
        notes += (f"first of {frames} {'pages' if image.format == 'TIFF' else 'frames'}",)
    image.load()
    if image.mode in _DEEP_MODES:
        return _deep(np.asarray(image), image, config, notes=notes)
    return _shallow(image, notes)


def _shallow(image: ImageFile.ImageFile, notes: tuple[str, ...]) -> Picture:
    orientation, more = _orientation(image)
    notes += more
    plain: Image.Image = image
    if image.mode in ("RGBa", "La"):  # colours multiplied by alpha: divide it out
        plain = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    if _is_transparent(plain):
        notes += ("alpha dropped",)
    return Picture(
        np.asarray(plain.convert("RGB")), (image.height, image.width), orientation, notes
    )


def _deep(
    pixels: npt.NDArray[Any],
    image: ImageFile.ImageFile,
    config: ImagesConfig,
    *,
    notes: tuple[str, ...],
) -> Picture:
    orientation, more = _orientation(image)
    shallow = stretch(pixels, config.stretch_16bit)
    if shallow.ndim == 2:
        shallow = np.repeat(shallow[..., None], 3, axis=2)
    return Picture(shallow, (image.height, image.width), orientation, notes + more)


def _bands(pixels: npt.NDArray[Any], *, alpha: bool) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    if not alpha:
        return pixels, ()
    opaque = pixels[..., -1].min() == np.iinfo(pixels.dtype).max
    return pixels[..., :3], () if opaque else ("alpha dropped",)


def _is_transparent(image: Image.Image) -> bool:
    if "transparency" in image.info:
        return True
    return image.mode in ("RGBA", "LA", "PA") and image.getextrema()[-1] != (255, 255)


def _frame_count(image: ImageFile.ImageFile) -> int:
    try:
        count = int(getattr(image, "n_frames", 1))
        image.seek(0)
    except Exception:  # a later frame is broken; the first is what counts
        return 1
    return count


def _orientation(image: ImageFile.ImageFile) -> tuple[int, tuple[str, ...]]:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken EXIF block is no reason to lose the picture
        return 1, ("EXIF unreadable, taken as upright",)
    return (value, ()) if isinstance(value, int) and 1 <= value <= 8 else (1, ())


def explain(kind: str, error: Exception, data: bytes) -> UndecodableError:
    """Turns whatever a library raised into a reason: cut short, or corrupt."""
    text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(error).split())) or type(error).__name__
    cut = is_cut(kind, data) or re.search("truncated", text, re.IGNORECASE)
    code = ErrorCode.TRUNCATED if cut else ErrorCode.DECODE_ERROR
    return UndecodableError(code, f"{kind}: {text[:200]}")
