"""PNG through Pillow, 16-bit colour through OpenCV; metadata that nothing needs costs no image."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator

import cv2
import imagecodecs
import numpy as np
from PIL import PngImagePlugin

from schemas.config.images import ImagesConfig
from schemas.records import ErrorCode

from .decoded import Decoded, UndecodableError, exif_orientation, from_deep
from .memory import check_size, deep_bytes
from .pillow_kinds import read_frames, with_channels

# It says on stderr, without a file's name, what its result tells.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_METADATA = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_PIXELS = (b"IDAT", b"fdAT")
_FRAMES = (b"acTL", b"fcTL", b"fdAT")
_LIMIT = PngImagePlugin.MAX_TEXT_CHUNK
_SIGNATURE = 8


def decode_png(data: bytes, config: ImagesConfig, min_side: int | None) -> Decoded:
    """PNG; 16-bit colour through OpenCV, since Pillow keeps only its upper 8 bits.

    Raises:
        UndecodableError: Too large, or broken 16-bit data.
    """
    notes = wrong_pixels(data)
    try:
        picture = _decode(data, config)
    except (ValueError, SyntaxError):
        picture, skipped = _decode_plain(data, config)
        notes += skipped
    if not notes:
        return with_channels(picture, config)
    noted = Decoded(
        picture.pixels,
        picture.stored_hw,
        picture.orientation,
        (*picture.notes, *notes),
        picture.values,
    )
    return with_channels(noted, config)


def _decode_plain(data: bytes, config: ImagesConfig) -> tuple[Decoded, tuple[str, ...]]:
    """The picture without metadata that Pillow refuses, and what was skipped."""
    plain, skipped = without_metadata(data)
    try:
        return _decode(plain, config), skipped
    except (ValueError, SyntaxError):
        plain, skipped = without_metadata(data, every=True)
        if not skipped:
            raise
        return _decode(plain, config), skipped


def _decode(data: bytes, config: ImagesConfig) -> Decoded:
    depth, color_type = data[24:26]
    image = PngImagePlugin.PngImageFile(io.BytesIO(data))
    deep = depth == 16 and color_type != 0
    bytes_a_pixel = deep_bytes(4, 2) if deep else deep_bytes(1, depth // 8 or 1)
    check_size(image.height, image.width, config, bytes_a_pixel=bytes_a_pixel)
    if not deep:
        return read_frames(image, config)
    image.load()  # strict about missing data; and EXIF may stand behind the pixels
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise UndecodableError(ErrorCode.DECODE_ERROR, "PNG: broken 16-bit data")
    orientation, notes = exif_orientation(image)
    if pixels.ndim == 2:
        return from_deep(pixels, orientation, notes, config)
    if pixels.shape[2] == 4 and pixels[..., 3].min() < 65535:
        notes += ("alpha dropped",)
    return from_deep(pixels[..., 2::-1], orientation, notes, config)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, first byte, byte after the last) of each whole chunk."""
    at = _SIGNATURE
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return
        yield data[at + 4 : at + 8], at, end
        if data[at + 4 : at + 8] == b"IEND":
            return
        at = end


def _is_intact(data: bytes, at: int, end: int) -> bool:
    stated = int.from_bytes(data[end - 4 : end], "big")
    return imagecodecs.deflate_crc32(data[at + 4 : end - 4]) == stated


def wrong_pixels(data: bytes) -> tuple[str, ...]:
    """A note where the checksum of pixels is wrong, which Pillow does not look at."""
    wrong = any(
        kind in _PIXELS and not _is_intact(data, at, end) for kind, at, end in png_chunks(data)
    )
    return ("wrong checksum of the pixels",) if wrong else ()


def without_metadata(data: bytes, *, every: bool = False) -> tuple[bytes, tuple[str, ...]]:
    """The file without those texts, profiles and other unneeded chunks that Pillow refuses.

    Args:
        data: The whole file.
        every: All that is not needed goes, whole or not.

    Returns:
        The file that is left, and a note on each kind that is not.
    """
    kept, notes, end = [data[:_SIGNATURE]], [], _SIGNATURE
    for kind, at, end in png_chunks(data):
        optional = kind[:1].islower() and kind not in _FRAMES
        name = kind.decode("latin-1")
        if optional and not _is_intact(data, at, end):
            notes.append(f"{name} skipped: wrong checksum")
        elif kind in _METADATA and _inflated(data[at + 8 : end - 4], kind) > _LIMIT:
            notes.append(f"{name} skipped: very large")
        elif every and optional and kind != b"tRNS":
            notes.append(f"{name} skipped: damaged or too much metadata")
        else:
            kept.append(data[at:end])
    kept.append(data[end:])
    return b"".join(kept), tuple(dict.fromkeys(notes))


def _inflated(body: bytes, kind: bytes) -> int:
    """Bytes of a text or profile once it is inflated, as far as the limit."""
    if kind in (b"tEXt", b"iTXt") and len(body) > _LIMIT:
        return len(body)
    start = body.find(b"x", body.find(b"\0"))  # a zlib stream begins with 0x78
    if kind == b"tEXt" or start < 0:
        return len(body)
    try:
        return len(zlib.decompressobj().decompress(body[start:], _LIMIT + 1))
    except zlib.error:
        return len(body)
