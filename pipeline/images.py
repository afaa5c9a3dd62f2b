"""Bytes → pixels: HWC uint8 RGB, upright, or a reason why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from schemas.config import ImagesConfig
from schemas.records import ErrorCode, Failure, ImageRecord, Sample

from .decoders import DECODERS, explain
from .picture import Picture, Pixels, UndecodableError
from .sniff import sniff


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


def _sample(picture: Picture, kind: str, record: ImageRecord) -> Sample:
    height, width = picture.stored_hw
    return Sample(
        record=record,
        pixels=_upright(picture.pixels, picture.orientation),
        original_hw=(width, height) if picture.orientation >= 5 else (height, width),
        orientation=picture.orientation,
        image_format=kind,
        note="; ".join(picture.notes),
    )


def _values(picture: Picture) -> npt.NDArray[Any]:
    if picture.values is None:
        return _upright(picture.pixels, picture.orientation)
    # OpenCV turns no more than four bands.
    turned = np.flip(np.atleast_3d(picture.values), _MIRRORED[picture.orientation])
    return turned.swapaxes(0, 1) if picture.orientation >= 5 else turned


def _decode(
    kind: str, data: bytes, config: ImagesConfig, min_side: int | None
) -> Picture | Failure:
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
        reason = explain(kind, error, data)
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
