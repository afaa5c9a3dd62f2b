"""Bytes → pixels: HWC uint8 RGB, upright, or a reason why not."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.storage.errors import StorageError
from pipeline.storage.file_bytes import Contents
from schemas.config.images import ImagesConfig
from schemas.records import ErrorCode, Failure, ImageRecord, Sample

from .decoded import Decoded, Pixels, UndecodableError
from .dicom import decode_dicom
from .jp2_jxl import decode_jpeg2000, decode_jpegxl
from .jpeg import decode_jpeg
from .pillow_kinds import PLUGINS, Decoder, decode_heic, decode_with
from .png import decode_png
from .sniff import is_cut, sniff
from .tiff.source import decode_tiff

DECODERS: dict[str, Decoder] = {
    "JPEG": decode_jpeg,
    "PNG": decode_png,
    "TIFF": decode_tiff,
    "JPEG 2000": decode_jpeg2000,
    "JPEG XL": decode_jpegxl,
    "HEIC": decode_heic,
    "DICOM": decode_dicom,
    **{kind: decode_with(plugin) for kind, plugin in PLUGINS.items()},
}
"""Kind as `sniff` names it → decoder(data, config, min_side): RGB as stored, before rotation."""

DECODERS_VERSION = 4
"""Goes up when images that failed before may be read now: such failures are not kept."""

UNREADABLE = frozenset(
    {ErrorCode.NOT_AN_IMAGE, ErrorCode.TRUNCATED, ErrorCode.DECODE_ERROR, ErrorCode.UNSUPPORTED}
)
"""Failures of decoding that another version of the decoders may not have."""

_PATHS = {"TIFF": "tifffile"}
"""Kinds that take another path than in version 1, whose labels are computed anew."""

_OURS = (
    AttributeError, TypeError, KeyError, IndexError, AssertionError, OverflowError,
    ZeroDivisionError, struct.error,
)  # fmt: skip
"""What a library's code raises when it stumbles over damage; the text says nothing to a user."""

_THEIRS = re.compile(r"by this driver|^Error -\d|broadcast|unpack_from|cannot reshape")
"""The same as text, in errors of other types."""


def decoding_path(data: Contents) -> str:
    """What an image's labels depend on beside its bytes: "" for paths as old as the first."""
    return _PATHS.get(sniff(data), "")


def sniffed(data: Contents) -> str:
    """`sniff`, "" where the first bytes cannot be read; `unread` then says why."""
    try:
        return sniff(data)
    except StorageError:
        return ""


def explain_decoding(kind: str, error: Exception, data: Contents) -> UndecodableError:
    """Turns whatever a library raised into a reason: cut short, unsupported or corrupt."""
    cut = isinstance(data, bytes) and is_cut(kind, data)
    if cut or re.search("truncated", str(error), re.IGNORECASE):
        return UndecodableError(ErrorCode.TRUNCATED, f"{kind}: the file ends inside the picture")
    known = re.search("cannot handle|not support|unsupported|unknown pixel mode", str(error), re.I)
    code = ErrorCode.UNSUPPORTED if known else ErrorCode.DECODE_ERROR
    if isinstance(error, _OURS) or _THEIRS.search(str(error)):
        return UndecodableError(ErrorCode.DECODE_ERROR, f"{kind}: the file is damaged")
    return UndecodableError(code, f"{kind}: {error or type(error).__name__}")


def of_plane(config: ImagesConfig, plane: str) -> ImagesConfig:
    """The config that reads one plane of a file: `ImageRecord.plane`, "" = as it is.

    A page or plane is asked for by `page`, a time point by `time`.
    """
    axis, _, number = plane.partition("=")
    if not number:
        return config
    key = "time" if axis == "t" else "page"
    return config.model_copy(update={key: int(number), "each": "file"})


def decode_image(
    data: Contents, record: ImageRecord, config: ImagesConfig, *, min_side: int | None = None
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
    kind = sniffed(data)
    picture = _decode(kind, data, of_plane(config, record.plane), min_side)
    return picture if isinstance(picture, Failure) else _sample(picture, kind, record)


def decode_values(
    data: Contents, config: ImagesConfig, *, plane: str = ""
) -> npt.NDArray[Any] | Failure:
    """Decodes one image's values as the file holds them: no stretch, and every band but alpha.

    Args:
        data: The whole file.
        config: Pixel limit, and which plane of a stack.
        plane: `ImageRecord.plane`.

    Returns:
        HxWxC upright: uint8 RGB of a picture of 8 bits, else the file's own type and bands; or a
        `Failure` as `decode_image` gives it.
    """
    picture = _decode(sniffed(data), data, of_plane(config, plane), None)
    return picture if isinstance(picture, Failure) else _values(picture)


def decode_with_values(
    data: Contents, record: ImageRecord, config: ImagesConfig, *, every_band: bool = True
) -> tuple[Sample, npt.NDArray[Any]] | Failure:
    """Both of the above, for the price of one.

    Without `every_band`, the values of a file of several channels of which nobody chose any are
    those of the channel that is seen.
    """
    kind = sniffed(data)
    picture = _decode(kind, data, of_plane(config, record.plane), None)
    if isinstance(picture, Failure):
        return picture
    values = _values(picture)
    if picture.first is not None and not every_band:
        values = values[..., picture.first : picture.first + 1]
    return _sample(picture, kind, record), values


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
    turned = np.flip(np.atleast_3d(picture.values), MIRRORED[picture.orientation])
    return turned.swapaxes(0, 1) if picture.orientation >= 5 else turned


def _decode(
    kind: str, data: Contents, config: ImagesConfig, min_side: int | None
) -> Decoded | Failure:
    """Decodes what `sniff` calls `kind`; never raises because of the bytes."""
    if failure := unread(data):
        return failure
    if not data:
        return Failure(ErrorCode.EMPTY_FILE, "the file has 0 bytes")
    if not kind:
        return Failure(ErrorCode.NOT_AN_IMAGE, f"not an image: starts with {data[:9]!r}")
    if kind not in DECODERS:
        return Failure(ErrorCode.UNSUPPORTED, f"{kind} files are not supported")
    if kind != "TIFF" and (missing := _not_there(config)):
        return Failure(ErrorCode.UNSUPPORTED, missing)
    found = _attempt(kind, data, config, min_side)
    return unread(data) or found


def unread(data: Contents) -> Failure | None:
    """Why some of the bytes could not be read, whatever was made without them; else None."""
    message = "" if isinstance(data, bytes) else data.failure
    return Failure(ErrorCode.READ_ERROR, message) if message else None


def _attempt(
    kind: str, data: Contents, config: ImagesConfig, min_side: int | None
) -> Decoded | Failure:
    try:
        if kind == "TIFF":
            return decode_tiff(data, config, min_side)
        return DECODERS[kind](data[:], config, min_side)
    except MemoryError:
        message = f"{kind}: not enough memory to decode it"
        return Failure(ErrorCode.TOO_LARGE, message, temporary=True)
    except UndecodableError as error:
        return Failure(error.code, str(error), temporary=error.temporary)
    except Exception as error:
        reason = explain_decoding(kind, error, data)
        return Failure(reason.code, str(reason))


def _not_there(config: ImagesConfig) -> str:
    """Which choice only a TIFF can have: reading another plane instead would be a wrong answer."""
    if config.time not in (None, 1):
        return f"images.time = {config.time}: the image has 1 time point"
    if config.series not in (None, 1):
        return f"images.series: there is no series {config.series!r}, the file has 1"
    if config.level:
        return f"images.level = {config.level}: the image has 1 level"
    if config.mpp is not None:
        return "images.mpp: the file has no levels of known size"
    return ""


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

MIRRORED = {
    1: (), 2: (1,), 3: (0, 1), 4: (0,), 5: (), 6: (0,), 7: (0, 1), 8: (1,),
}  # fmt: skip
"""Axes to flip as stored; from 5 on rows and columns then change places."""
