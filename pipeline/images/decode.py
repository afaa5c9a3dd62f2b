"""Bytes → pixels: HWC uint8 RGB, upright, or a reason why not."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    PngImagePlugin,
    WebPImagePlugin,
)

from schemas.config.job import ImagesConfig
from schemas.records import ErrorCode, Failure, ImageRecord, Sample

from .decoded import (
    Decoded,
    Pixels,
    UndecodableError,
    check_size,
    exif_orientation,
    from_deep,
    from_pillow,
)
from .jpeg import decode_jpeg
from .sniff import is_cut, sniff
from .tiff import decode_tiff

# One decoder a file format: bytes → RGB as stored, before any rotation.

# A format's class itself, not Image.open, which would guess the format again.
_Plugin = Callable[[io.BytesIO], ImageFile.ImageFile]
Decoder = Callable[[bytes, ImagesConfig, int | None], Decoded]


def decode_png(data: bytes, config: ImagesConfig, min_side: int | None) -> Decoded:
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

    def decode(data: bytes, config: ImagesConfig, min_side: int | None) -> Decoded:
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


def explain_decoding(kind: str, error: Exception, data: bytes) -> UndecodableError:
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


def decode_image(
    data: bytes, record: ImageRecord, config: ImagesConfig, *, min_side: int | None = None
) -> Sample | Failure:
    """Decodes one image; safe to call from threads, which then decode side by side.

    The kind of file comes from its first bytes, never from its name. Alpha is dropped, not
    blended: transparent pixels keep the colours that are stored under them, as in Pillow's
    `convert("RGB")`, with which most models were trained. Colour profiles are not applied.

    Args:
        data: The whole file.
        record: Where it came from.
        config: Pixel limit (checked before any pixel is decoded) and 16-bit stretch.
        min_side: Lets a JPEG be scaled down by a power of two while decoding, as long as its
            shorter side keeps at least so many pixels.

    Returns:
        A `Sample`, or a `Failure` for bytes that are no picture we can decode. Never raises
        because of the bytes.
    """
    kind = sniff(data)
    picture = _decode(kind, data, config, min_side)
    return picture if isinstance(picture, Failure) else _sample(picture, kind, record)


def decode_values(data: bytes, config: ImagesConfig) -> npt.NDArray[Any] | Failure:
    """Decodes one image's values as the file holds them: no stretch, and every band but alpha.

    Args:
        data: The whole file.
        config: Pixel limit.

    Returns:
        HxWxC upright: uint8 RGB of a picture of 8 bits, else the file's own type and bands; or a
        `Failure` as `decode_image` gives it.
    """
    picture = _decode(sniff(data), data, config, None)
    return picture if isinstance(picture, Failure) else _values(picture)


def decode_with_values(
    data: bytes, record: ImageRecord, config: ImagesConfig
) -> tuple[Sample, npt.NDArray[Any]] | Failure:
    """Both of the above, for the price of one."""
    kind = sniff(data)
    picture = _decode(kind, data, config, None)
    if isinstance(picture, Failure):
        return picture
    return _sample(picture, kind, record), _values(picture)


def _sample(picture: Decoded, kind: str, record: ImageRecord) -> Sample:
    height, width = picture.stored_hw
    return Sample(
        record=record,
        pixels=_upright(picture.pixels, picture.orientation),
        original_hw=(width, height) if picture.orientation >= 5 else (height, width),
        orientation=picture.orientation,
        image_format=kind,
        note="; ".join(picture.notes),
    )


def _values(picture: Decoded) -> npt.NDArray[Any]:
    if picture.values is None:
        return _upright(picture.pixels, picture.orientation)
    # OpenCV turns no more than four bands.
    turned = np.flip(np.atleast_3d(picture.values), _MIRRORED[picture.orientation])
    return turned.swapaxes(0, 1) if picture.orientation >= 5 else turned


def _decode(
    kind: str, data: bytes, config: ImagesConfig, min_side: int | None
) -> Decoded | Failure:
    """Decodes what `sniff` calls `kind`; never raises because of the bytes."""
    if not data:
        return Failure(ErrorCode.EMPTY_FILE, "the file has 0 bytes")
    if not kind:
        return Failure(ErrorCode.NOT_AN_IMAGE, f"not an image: starts with {data[:9]!r}")
    if kind not in DECODERS:
        return Failure(ErrorCode.UNSUPPORTED, f"{kind} files are not supported")
    try:
        return DECODERS[kind](data, config, min_side)
    except MemoryError:
        return Failure(ErrorCode.TOO_LARGE, f"{kind}: not enough memory to decode it")
    except UndecodableError as error:
        return Failure(error.code, str(error))
    except Exception as error:
        reason = explain_decoding(kind, error, data)
        return Failure(reason.code, str(reason))


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undoes an EXIF orientation: rotates and mirrors so that row 0 is the top of the scene."""
    return pixels if orientation == 1 else np.asarray(_TURNS[orientation](pixels), np.uint8)


_TURNS: dict[int, Callable[[Pixels], npt.NDArray[Any]]] = {
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: cv2.transpose,
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.flip(cv2.transpose(pixels), -1),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}

_MIRRORED = {
    1: (), 2: (1,), 3: (0, 1), 4: (0,), 5: (), 6: (0,), 7: (0, 1), 8: (1,),
}  # fmt: skip
"""Axes to flip as stored; from 5 on rows and columns then change places."""
