"""A large tiled TIFF whose pixels stay in the file: tiles are decoded when they are looked at."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tifffile

from schemas.config.images import ImagesConfig
from schemas.records import ErrorCode, ImageRecord, Sample

from .decode import of_plane
from .decoded import UndecodableError
from .memory import check_size
from .sniff import sniff
from .tiff import TiffSource
from .tiff_page import APERIO_YCC, check_strips, name_of

Pixels = npt.NDArray[np.uint8]

LARGE = 1 << 26
"""Pixels from which on an image is not decoded at once, if it is tiled."""
BYTES_A_PIXEL = 2
"""Of the masks and maps of an image that is never in memory itself."""
_CACHE_BYTES = 1 << 28


class SlidePixels:
    """HxWx3 uint8 as an array that is read where it is sliced; not safe for several threads.

    Args:
        data: The whole file.
        config: Which level, series or plane.

    Raises:
        UndecodableError: Its tiles are cut, or it is larger than it may be.
        ValueError: It is none of tiles of 8-bit grey or RGB.
    """

    def __init__(self, data: bytes, config: ImagesConfig) -> None:
        self._arguments = data, config
        self._file = tifffile.TiffFile(io.BytesIO(data))
        source = TiffSource(self._file, data, config)
        self._page: Any = source.only_page()
        upright = source.key.tags.valueof(274, default=1) == 1
        if self._page is None or not (source.key.is_tiled and upright and is_plain(source.key)):
            raise ValueError("not a plain image of tiles")
        check_size(*source.hw, config, bytes_a_pixel=BYTES_A_PIXEL, tiled=True)
        self.notes = (*source.notes, *check_strips(self._page, source.key, len(data)))
        self.shape = (*source.hw, 3)
        self.dtype = np.dtype(np.uint8)
        self.ndim = 3
        self.nbytes = len(data)
        self._tiles: OrderedDict[int, Pixels] = OrderedDict()
        self._held = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return SlidePixels, self._arguments

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:, :], dtype)

    def __getitem__(self, place: slice | tuple[slice, ...]) -> Pixels:
        """The pixels of these rows and columns, each a slice without a step."""
        rows, columns, *rest = (*(place if isinstance(place, tuple) else (place,)), slice(None))
        top, bottom, _ = rows.indices(self.shape[0])
        left, right, _ = columns.indices(self.shape[1])
        out = np.zeros((max(bottom - top, 0), max(right - left, 0), 3), np.uint8)
        key = self._page.keyframe
        tall, wide = key.tilelength, key.tilewidth
        across = -(-key.imagewidth // wide)
        for y in range(top // tall, -(-bottom // tall)) if out.size else ():
            for x in range(left // wide, -(-right // wide)):
                tile = self._tile(y * across + x)
                y0, x0 = y * tall, x * wide
                a, b = max(top, y0), min(bottom, y0 + tile.shape[0])
                c, d = max(left, x0), min(right, x0 + tile.shape[1])
                if a < b and c < d:
                    out[a - top : b - top, c - left : d - left] = tile[
                        a - y0 : b - y0, c - x0 : d - x0
                    ]
        return out[(slice(None), slice(None), *rest[:1])]

    def _tile(self, index: int) -> Pixels:
        if index in self._tiles:
            self._tiles.move_to_end(index)
            return self._tiles[index]
        key = self._page.keyframe
        tile = decode_segment(self._arguments[0], self._page, index)
        if tile is None:
            tile = np.zeros((key.tilelength, key.tilewidth, 3), np.uint8)
        self._tiles[index] = tile
        self._held += tile.nbytes
        while self._held > _CACHE_BYTES and len(self._tiles) > 1:
            self._held -= self._tiles.popitem(last=False)[1].nbytes
        return tile


def decode_segment(data: bytes, page: Any, index: int) -> Pixels | None:
    """A tile or strip of a TIFF whose page `is_plain`, HxWx3; None where it is not stored.

    Raises:
        UndecodableError: It is damaged.
    """
    key = page.keyframe
    offset, count = page.dataoffsets[index], page.databytecounts[index]
    if not (offset and count):
        return None
    body = data[offset : offset + count]
    tables = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader}
    try:
        values = key.decode(body, index, **tables)[0][0]
    except Exception:
        reason = f"TIFF: damaged {name_of(key.compression)} data"
        raise UndecodableError(ErrorCode.DECODE_ERROR, reason) from None
    if int(key.compression) == APERIO_YCC:
        values = cv2.cvtColor(values, cv2.COLOR_YCrCb2RGB)
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)), np.uint8)


def open_slide(
    data: bytes, record: ImageRecord, config: ImagesConfig, *, at_least: int | None = None
) -> Sample | None:
    """A sample of a large tiled TIFF that is not decoded yet; None where it must be decoded.

    Whatever is wrong with the file is left to the decoder to say.

    Args:
        data: The whole file.
        record: Where it came from.
        config: Which level, series or plane.
        at_least: Pixels from which on an image is large; `LARGE` if unset.
    """
    if sniff(data) != "TIFF" or config.channels or config.projection != "none":
        return None
    try:
        pixels: Any = SlidePixels(data, of_plane(config, record.plane))
    except Exception:
        return None
    height, width, _ = pixels.shape
    if height * width < (LARGE if at_least is None else at_least):
        return None
    note = "; ".join(pixels.notes)
    return Sample(record, pixels, (height, width), image_format="TIFF", note=note)


def is_plain(key: Any) -> bool:
    """Whether a page's parts are 8-bit grey or RGB, each to be decoded by itself."""
    photometric = name_of(key.photometric)
    grey = key.samplesperpixel == 1 and photometric == "MINISBLACK"
    color = key.samplesperpixel == 3 and photometric in ("RGB", "YCBCR")
    return (
        key.imagedepth == 1
        and (grey or color)
        and key.bitspersample == 8
        and key.dtype == np.uint8
        and int(key.planarconfig) == 1
        and not (photometric == "YCBCR" and int(key.compression) not in (7, APERIO_YCC))
    )
