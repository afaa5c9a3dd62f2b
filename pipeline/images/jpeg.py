"""JPEG through libjpeg-turbo: fast, scaled in the DCT on demand, and strict about missing data."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import simplejpeg
from PIL import JpegImagePlugin, MpoImagePlugin

from schemas.config.images import ImagesConfig
from schemas.notes import first_of
from schemas.records import ErrorCode

from .decoded import (
    Bands,
    Decoded,
    NotInBandsError,
    Pixels,
    UndecodableError,
    exif_orientation,
    from_pillow,
)
from .memory import BYTES_A_PIXEL, check_size
from .pillow_kinds import one_page, read_frames, with_channels
from .sniff import is_cut

_UNKNOWN = (
    "Unsupported JPEG process",
    "Unsupported JPEG data precision",
    "Unsupported color conversion request",  # lossless
)
_REMARKS = (
    "Invalid SOS parameters for sequential JPEG",
    "Unknown Adobe color transform code",
    "Warning: unknown JFIF revision number",
    "Corrupt JPEG data: bad ICC marker",
)
_PROGRESSIVE = (0xC2, 0xCA)
_COEFFICIENTS = 6
"""Bytes a pixel that libjpeg keeps of an image in several scans."""
_SCAN, _APP1, _JPEG_LS = 0xDA, 0xE1, 0xF7
_FRAME_FIELDS = 6
_ALL_BITS = 15
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_MPF = b"MPF\0"
_MP_ENTRIES = 0xB002
_END = b"\xff\xd9"
_STUFFED = 2
_PADDING = 16  # bytes some cameras put before the end marker; more means lost synchronisation


def decode_jpeg(data: bytes, config: ImagesConfig, min_side: int | None) -> Decoded:
    """Decodes a JPEG, at 1/2, 1/4 or 1/8 of its size where `min_side` allows.

    Raises:
        UndecodableError: The file is cut, corrupt, too large or of an unsupported process.
    """
    if config.page not in (None, "first", 1) or config.projection != "none":
        return _decode_frame(data, config)
    picture = _decode_first(data, config, min_side)
    if config.page is None and (several := _several(data)):
        picture = replace(picture, notes=(*picture.notes, several))
    return with_channels(picture, config)


def _several(data: bytes) -> str:
    """A note on an MPO whose further pictures are views of the scene: stereo, panorama, angles.

    A preview or the brightness map that a phone adds is none; that map has no type of its own, but
    is smaller than the picture.
    """
    if _MPF not in data[: data.find(b"\xff\xda")]:
        return ""
    try:
        image: Any = JpegImagePlugin.jpeg_factory(io.BytesIO(data))
        kinds = [entry["Attribute"]["MPType"] for entry in image.mpinfo[_MP_ENTRIES]]
        views, size = sum(kind.startswith("Multi-Frame Image") for kind in kinds), image.size
        for place, kind in enumerate(kinds):
            if place and kind == "Undefined":
                image.seek(place)
                views += 2 * (image.size == size)
    except Exception:  # the first picture is there
        return ""
    return first_of(len(kinds), "frames") if views > 1 else ""


def _decode_frame(data: bytes, config: ImagesConfig) -> Decoded:
    """Another picture than the first of a file that holds several (MPO)."""
    image = JpegImagePlugin.jpeg_factory(io.BytesIO(data))
    check_size(image.height, image.width, config)
    if not isinstance(image, MpoImagePlugin.MpoImageFile) and config.projection == "none":
        one_page(config)
    return with_channels(read_frames(image, config), config)


def jpeg_bands(data: bytes, config: ImagesConfig) -> Bands:
    """A JPEG, row by row.

    Raises:
        NotInBandsError: Its colours are CMYK, or it is of a kind that the fast binding refuses.
    """
    try:
        height, width, cmyk = _header(data)
    except ValueError:
        raise NotInBandsError("a JPEG of this kind is not decoded in bands") from None
    if cmyk:
        raise NotInBandsError("a JPEG in CMYK is not decoded in bands")

    def fill(pixels: Pixels) -> Iterator[tuple[str, ...]]:
        # libjpeg goes from row to row by itself; the system writes out what is done.
        yield _decode_first(data, config, None, buffer=pixels).notes

    more = _COEFFICIENTS if _is_progressive(data) else 0
    return Bands((height, width), _orientation(data)[0], fill, more_bytes=more)


def _header(data: bytes) -> tuple[int, int, bool]:
    """(height, width, whether its colours are CMYK) as stored.

    Raises:
        ValueError: It is of a kind that the fast binding refuses.
    """
    height, width, colors, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    return int(height), int(width), colors in ("CMYK", "YCCK")


def _decode_first(
    data: bytes, config: ImagesConfig, min_side: int | None, buffer: Pixels | None = None
) -> Decoded:
    try:
        height, width, cmyk = _header(data)
    except ValueError:
        return _decode_odd(data, config)
    factor = _factor(height, width, min_side)
    if buffer is None:
        # Scaled down in decoding, no more than that is in memory; the plain rule asks the file.
        check_size(height, width, config, bytes_a_pixel=BYTES_A_PIXEL / factor**2)
    orientation, notes = _orientation(data)
    options: dict[str, Any] = {"colorspace": "CMYK" if cmyk else "RGB", "buffer": buffer}
    if factor > 1:
        options |= {"min_height": -(-height // factor), "min_width": -(-width // factor)}
    pixels, warning = _strict(data, options)
    unfinished = _is_unfinished(data)
    if pixels is None and is_cut("JPEG", data):
        if not unfinished:
            pixels, _ = _strict(data + _END, options)
        warning = "end marker missing"
        if pixels is None:
            pixels, warning = _without_padding(data, len(data), options), "padded, no end marker"
        if pixels is None:  # more is missing than the end marker
            raise UndecodableError(ErrorCode.TRUNCATED, "JPEG: the file ends inside the picture")
    elif pixels is None and _stray_before_end(warning) > _PADDING:
        pixels = _without_padding(data, data.rfind(_END), options)
        warning = "padded before its end marker" if pixels is not None else warning
    if pixels is None:
        return _decode_doubtful(data, config, warning)
    if cmyk:
        pixels = _cmyk_to_rgb(pixels)
    more = (warning, "progressive, without its last scans" if unfinished else "")
    return Decoded(pixels, (height, width), orientation, (*notes, *filter(None, more)))


def _stray_before_end(warning: str) -> int:
    stray = re.search(r"(\d+) extraneous bytes before marker 0xd9", warning)
    return int(stray[1]) if stray else 0


def _factor(height: int, width: int, min_side: int | None) -> int:
    """How much smaller it may be decoded: 1, 2, 4 or 8."""
    factor = 1 if min_side is None else 8
    while factor > 1 and -(-min(height, width) // factor) < (min_side or 0):
        factor //= 2
    return factor


def _without_padding(data: bytes, end: int, options: dict[str, Any]) -> Pixels | None:
    """The pixels of a file whose last block is followed by zeros or by 0xff, None if it is not.

    Zeros are also valid codes: a file overwritten with them decodes to its end, flat. So they are
    taken away, and all blocks must be there without them.
    """
    for filling in (b"\0", b"\xff"):
        kept = len(data[:end].rstrip(filling))
        if end - kept <= _STUFFED:
            continue
        for more in range(_STUFFED + 1):  # the last byte of the pixels may look like filling
            pixels, _ = _strict(data[: kept + more] + _END, options)
            if pixels is not None:
                return pixels
    return None


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
    """EXIF orientation 1…8, and a note if it cannot be read."""
    if not _has_app1(data):
        return 1, ()
    try:
        header = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    except Exception:  # Pillow is stricter about metadata than libjpeg
        return 1, ("metadata unreadable, taken as upright",)
    return exif_orientation(header)


def _has_app1(data: bytes) -> bool:
    """Whether a segment before the pixels can hold EXIF or XMP; True where that is not clear."""
    markers = list(_markers(data))
    return _APP1 in markers or markers[-1:] != [_SCAN]


def _is_progressive(data: bytes) -> bool:
    """Whether the pixels come in several scans, of which the decoder keeps all in memory."""
    return any(one in _PROGRESSIVE for one in _markers(data))


def _is_unfinished(data: bytes) -> bool:
    """Whether the scans of a progressive file leave coefficients out, or their last bits.

    The decoder says nothing of it: a download that was cut between two scans and closed with an
    end marker is a whole file of a blurred picture (ITU-T T.81, G.1.1).
    """
    if not _is_progressive(data):
        return False
    left: dict[int, bytearray] = {}
    for marker, body in _segments(data):
        if marker in _PROGRESSIVE and len(body) > _FRAME_FIELDS:
            left = {part: bytearray([_ALL_BITS] * 64) for part in body[_FRAME_FIELDS::3]}
        elif marker == _SCAN and body and len(body) >= 2 * body[0] + 4:
            first, last, bits = body[2 * body[0] + 1 : 2 * body[0] + 4]
            for part in left.keys() & {*body[1 : 2 * body[0] + 1 : 2]}:
                width = len(left[part][first : last + 1])
                left[part][first : last + 1] = bytes([bits & 0xF]) * width
    return any(any(bits) for bits in left.values())


def _markers(data: bytes) -> Iterator[int]:
    """Markers of the segments before the pixels; the last is a scan's unless something is odd."""
    for marker, _ in _segments(data):
        yield marker
        if marker == _SCAN:
            return


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and contents of each segment, also between scans; ends where something is odd."""
    at = 2
    while data[at : at + 1] == b"\xff":
        marker = data[at + 1] if at + 1 < len(data) else 0
        if not 0xC0 <= marker < 0xFF or 0xD0 <= marker <= 0xD9:
            return
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : end]
        if marker == _SCAN:
            after = _SCAN_END.search(data, end)
            if after is None:
                return
            end = after.start()
        at = end


def _decode_odd(data: bytes, config: ImagesConfig) -> Decoded:
    """What the fast binding refuses, such as unusual chroma subsampling."""
    if _JPEG_LS in _markers(data):
        raise UndecodableError(ErrorCode.UNSUPPORTED, "JPEG-LS files are not supported")
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    check_size(image.height, image.width, config)
    image.load()
    return from_pillow(image, *exif_orientation(image))


def _cmyk_to_rgb(inverted: Pixels) -> Pixels:
    """R = C′·K′ / 255 rounded, as Pillow converts; JPEG holds CMYK inverted (Adobe's habit)."""
    inks = inverted.astype(np.uint16)
    product = inks[..., :3] * inks[..., 3:] + 128
    return ((product + (product >> 8)) >> 8).astype(np.uint8)
