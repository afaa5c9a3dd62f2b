"""JPEG 2000 and JPEG XL through imagecodecs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Jpeg2KImagePlugin

from schemas.config.images import ImagesConfig
from schemas.records import ErrorCode

from .decoded import Decoded, UndecodableError, divided, from_deep, full_range
from .memory import check_size, deep_bytes
from .pillow_kinds import decode_with, one_page, with_channels
from .stack import ImageStack, pick

_CODESTREAM = b"\xff\x4f\xff\x51"
_SIGNED = 0x80
_CMYK = 12
_OTHER_SPACES = {13: "YCCK", 14: "CIELAB", 19: "CIEJab", 22: "YPbPr", 24: "e-sYCC"}
"""Colour spaces that nothing here turns into red, green and blue."""
_JXL_CODESTREAM = b"\xff\x0a"

Values = npt.NDArray[Any]


def decode_jpeg2000(data: bytes, config: ImagesConfig, min_side: int | None) -> Decoded:
    """JPEG 2000, bare or in a JP2 box, of any depth.

    Raises:
        UndecodableError: No codestream, too large, cut or damaged.
    """
    one_page(config)
    start = data.find(_CODESTREAM)
    if start < 0 or start + 42 > len(data):
        raise UndecodableError(ErrorCode.TRUNCATED, "JPEG 2000: the file ends before the picture")
    right, bottom, left, top = (
        int.from_bytes(data[start + at : start + at + 4], "big") for at in (8, 12, 16, 20)
    )
    bands = int.from_bytes(data[start + 40 : start + 42], "big")
    check_size(bottom - top, right - left, config, bytes_a_pixel=deep_bytes(bands, 4))
    space, premultiplied = _jp2_colors(data[:start])
    if space in _OTHER_SPACES:
        message = f"JPEG 2000: colours in {_OTHER_SPACES[space]} are not supported"
        raise UndecodableError(ErrorCode.UNSUPPORTED, message)
    if space == _CMYK:
        return decode_with(Jpeg2KImagePlugin.Jpeg2KImageFile)(data, config, min_side)
    try:
        values = _decoded("JPEG 2000", imagecodecs.jpeg2k_decode, data)
    except NotImplementedError:  # colours at half the size, which Pillow reads at 8 bits
        return decode_with(Jpeg2KImagePlugin.Jpeg2KImageFile)(data, config, min_side)
    sizes = data[start + 42 : start + 42 + 3 * bands : 3]
    deepest = max((1 + (size & 0x7F) for size in sizes if not size & _SIGNED), default=8)
    values = full_range(values, deepest)
    if premultiplied and values.ndim == 3 and values.dtype.kind == "u":
        alpha, most = values[..., -1], int(np.iinfo(values.dtype).max)
        values = np.dstack((divided(values[..., :-1], alpha, most), alpha))
    return with_channels(_shown(values, config), config)


def _jp2_colors(boxes: bytes) -> tuple[int, bool]:
    """Number of the colour space (ISO/IEC 15444-2, table M.25), 0 where there is none, and
    whether colours were multiplied by alpha."""
    space, premultiplied = 0, False
    at = boxes.find(b"jp2h") + 4
    while at > 4 and at + 8 <= len(boxes):
        size, kind = int.from_bytes(boxes[at : at + 4], "big"), boxes[at + 4 : at + 8]
        body = boxes[at + 8 : at + size]
        if kind == b"colr" and body[:1] == b"\1" and not space:
            space = int.from_bytes(body[3:7], "big")
        if kind == b"cdef":
            premultiplied = any(body[one : one + 2] == b"\0\2" for one in range(4, len(body), 6))
        if size < 8 or kind == b"jp2c":
            break
        at += size
    return space, premultiplied


def decode_jpegxl(data: bytes, config: ImagesConfig, min_side: int | None) -> Decoded:
    """JPEG XL, bare or in a box, of any depth; libjxl turns it upright by itself.

    Raises:
        UndecodableError: Too large, cut or damaged, or no such frame.
    """
    header = _JpegXlHeader(data)
    height, width = header.hw
    check_size(height, width, config, bytes_a_pixel=deep_bytes(4, 2))
    values = _decoded("JPEG XL", imagecodecs.jpegxl_decode, data)
    values = full_range(values, header.bits())
    frames = _frames(values, height, width)
    notes: tuple[str, ...] = ()
    if frames > 1 or config.page not in (None, "first", 1) or config.projection != "none":
        whole = values if frames > 1 else values[None]

        def frame(at: Mapping[str, int]) -> Values:
            return whole[at["F"]]

        picked = pick(ImageStack({"F": frames}, frame), config.model_copy(update={"channels": ()}))
        values, notes = picked.values, picked.notes
    return with_channels(_shown(values, config, notes), config)


def count_jpegxl_frames(data: bytes) -> int:
    """Frames of a JPEG XL, at least 1.

    Raises:
        UndecodableError: It is cut or damaged.
    """
    values = _decoded("JPEG XL", imagecodecs.jpegxl_decode, data)
    return _frames(values, *_JpegXlHeader(data).hw)


def _frames(values: Values, height: int, width: int) -> int:
    film = values.ndim == 3 and sorted(values.shape[1:]) == sorted((height, width))
    return len(values) if values.ndim == 4 or film else 1


def _decoded(kind: str, decode: Any, data: bytes) -> Values:
    try:
        return np.asarray(decode(data))
    except (MemoryError, NotImplementedError):
        raise
    except Exception as error:
        if "runcat" in str(error) or "more input" in str(error).lower():
            message = f"{kind}: the file ends inside the picture"
            raise UndecodableError(ErrorCode.TRUNCATED, message) from None
        message = f"{kind}: damaged or cut"
        raise UndecodableError(ErrorCode.DECODE_ERROR, message) from None


def _shown(values: Values, config: ImagesConfig, notes: tuple[str, ...] = ()) -> Decoded:
    """Grey or RGB of any depth, its alpha dropped."""
    bands = values.shape[2] if values.ndim == 3 else 1
    if bands in (2, 4):
        alpha = values[..., -1]
        opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind == "u" else 1
        notes += ("alpha dropped",) if (alpha < opaque).any() else ()
        values = values[..., : bands - 1]
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim == 3 and values.shape[2] > 3:
        more = (f"first 3 of {values.shape[2]} bands",)
        return from_deep(values[..., :3], 1, notes + more, config, bands=values)
    return from_deep(np.ascontiguousarray(values), 1, notes, config)


class _JpegXlHeader:
    """The beginning of a codestream, bit by bit (ISO/IEC 18181-1, SizeHeader, ImageMetadata).

    Attributes:
        hw: (height, width) as stored.

    Raises:
        UndecodableError: The file ends before it.
    """

    def __init__(self, data: bytes) -> None:
        start = 0 if data.startswith(_JXL_CODESTREAM) else _jxl_codestream(data)
        if start < 0 or len(data) < start + 12:
            message = "JPEG XL: the file ends before the picture"
            raise UndecodableError(ErrorCode.TRUNCATED, message)
        self._bits = int.from_bytes(data[start + 2 : start + 66], "little")
        self.hw = self._size()

    def bits(self) -> int:
        """Of a sample; 8 where it is more, a float, or behind a preview."""
        if self._take(1):  # all as usual
            return 8
        if self._take(1):
            self._take(3)  # orientation
            if self._take(1):
                self._size()  # as it should be shown
            if self._take(1):
                return 8
            if self._take(1):  # an animation
                for widths in ((0, 0, 10, 30), (0, 0, 8, 10), (0, 3, 16, 32)):
                    self._one_of(widths)
                self._take(1)
        if self._take(1):  # floats
            return 8
        which = self._take(2)
        return min(8, 1 + self._take(6)) if which == 3 else 8

    def _size(self) -> tuple[int, int]:
        small = self._take(1)

        def side() -> int:
            return 8 * (self._take(5) + 1) if small else self._one_of((9, 13, 18, 30)) + 1

        height, ratio = side(), self._take(3)
        if not ratio:
            return height, side()
        ratios = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
        over, under = ratios[ratio - 1]
        return height, height * over // under

    def _one_of(self, widths: tuple[int, int, int, int]) -> int:
        """Two bits say of how many bits the value is."""
        return self._take(widths[self._take(2)])

    def _take(self, count: int) -> int:
        value, self._bits = self._bits & ((1 << count) - 1), self._bits >> count
        return value


def _jxl_codestream(data: bytes) -> int:
    """Where the codestream begins in a file of boxes, −1 if it does not."""
    at = 0
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body = at + 8
        if size == 1:
            size, body = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        if kind == b"jxlc":
            return body
        if kind == b"jxlp":
            return body + 4
        if size < 8:
            return -1
        at += size
    return -1
