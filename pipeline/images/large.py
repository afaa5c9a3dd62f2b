"""Images larger than memory: pixels stay in a file, and tiles are read when they are looked at."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import tifffile

from pipeline.storage.file_bytes import Contents, open_contents
from schemas.config.images import ImagesConfig
from schemas.records import ErrorCode, Failure, ImageRecord, Sample

from .decode import (
    MIRRORED,
    decode_image,
    decode_values,
    explain_decoding,
    of_plane,
    sniffed,
    unread,
)
from .decoded import Bands, NotInBandsError, Pixels, UndecodableError
from .jpeg import jpeg_bands
from .memory import check_size
from .png import png_bands
from .sniff import sniff
from .tiff.page import check_strips, decode_segment, is_plain
from .tiff.source import TiffSource, tiff_bands

LARGE_FILE = 1 << 27
"""Bytes from which on a TIFF is read by ranges: its decoder never needs all of it at once."""
_TIFFS = (
    ".tif", ".tiff", ".svs", ".ndpi", ".scn", ".bif", ".qptiff", ".zif", ".btf", ".tf2", ".tf8",
)  # fmt: skip
"""Suffixes of files that a list names, which are asked for their size."""
_BYTES_A_PIXEL = 1
"""Of the masks and maps of an image that is never in memory itself."""
_CACHE_BYTES = 1 << 27
LARGE = 1 << 26
"""Pixels from which on an image is not decoded at once, if it is tiled."""
_BAND = 1 << 22
"""Pixels that are decoded at once."""


class SlidePixels:
    """HxWx3 uint8 as an array that is read where it is sliced; not safe for several threads.

    Args:
        data: The whole file.
        config: Which level, series or plane.

    Raises:
        UndecodableError: Its tiles are cut, or it is larger than it may be.
        ValueError: It is none of tiles of 8-bit grey or RGB.
    """

    def __init__(self, data: Contents, config: ImagesConfig) -> None:
        self._arguments = data, config
        self._file = tifffile.TiffFile(open_contents(data))
        source = TiffSource(self._file, data, config)
        self._page: Any = source.only_page()
        upright = source.orientation == 1
        if self._page is None or not (source.key.is_tiled and upright and is_plain(source.key)):
            raise ValueError("not a plain image of tiles")
        check_size(*source.hw, config, bytes_a_pixel=_BYTES_A_PIXEL, tiled=True)
        self.notes = (*source.notes, *check_strips(self._page, source.key, data))
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


class _Reader(Protocol):
    def read(self, record: ImageRecord) -> bytes: ...
    def open(self, record: ImageRecord) -> Contents: ...


def read_contents(reader: _Reader, record: ImageRecord) -> Contents:
    """An image's bytes; of a large TIFF they are read where they are sliced.

    Raises:
        StorageError: They cannot be had.
    """
    if record.size < 0:
        large = record.uri.partition("?")[0].lower().endswith(_TIFFS)
    else:
        large = record.size >= LARGE_FILE
    if not large:
        return reader.read(record)
    found = reader.open(record)
    if isinstance(found, bytes) or (len(found) >= LARGE_FILE and sniff(found) == "TIFF"):
        return found
    return reader.read(record)


def open_image(
    data: Contents,
    record: ImageRecord,
    config: ImagesConfig,
    *,
    beyond: int = 0,
    min_side: int | None = None,
) -> Sample | Failure:
    """`decode_image`, but pixels too many for memory stay in a file and are read where sliced.

    A tiled TIFF of `LARGE` pixels is not decoded at all; what memory refuses is decoded in bands.
    Then `pixels` of the sample are a `SlidePixels` or `FilePixels`.

    Args:
        data: The whole file.
        record: Where it came from.
        config: Which level, series, plane.
        beyond: Sides up to this many pixels are decoded at once, or not at all.
        min_side: See `decode_image`.
    """
    return _opened(
        data, record, config, lambda: decode_image(data, record, config, min_side=min_side), beyond
    )


def open_values(data: Contents, record: ImageRecord, config: ImagesConfig) -> Any:
    """`decode_values`, but 8-bit pixels that `open_image` leaves in a file stay there.

    Returns:
        HxWxC, an array or of a class here; or a `Failure`.
    """
    found = _opened(
        data, record, config, lambda: decode_values(data, config, plane=record.plane), 0
    )
    return found.pixels if isinstance(found, Sample) else found


def _opened(
    data: Contents,
    record: ImageRecord,
    config: ImagesConfig,
    decode: Callable[[], Any],
    beyond: int,
) -> Any:
    slide = _open_slide(data, record, config, LARGE)
    if failure := unread(data):
        return failure
    if slide is not None and max(slide.original_hw) > beyond:
        return slide
    outcome = decode()
    refused = isinstance(outcome, Failure) and outcome.code is ErrorCode.TOO_LARGE
    if not (isinstance(outcome, Failure) and refused and outcome.temporary):
        return outcome
    large = _open_slide(data, record, config, 0) or decode_by_bands(data, record, config, outcome)
    fits = isinstance(large, Sample) and max(large.original_hw) <= beyond
    return outcome if fits else large


def shrunk(pixels: Any, hw: tuple[int, int]) -> Pixels:
    """An image of any class here in memory, no smaller than `hw` but for a factor below two."""
    height, width = pixels.shape[:2]
    factor = max(1, min(height // hw[0], width // hw[1]))
    rows = factor * max(1, _BAND // (factor * width))
    bands = [
        cv2.resize(
            np.ascontiguousarray(pixels[top : top + rows]),
            (width // factor, max(1, (min(top + rows, height) - top) // factor)),
            interpolation=cv2.INTER_AREA,
        )
        for top in range(0, height, rows)
    ]
    return np.concatenate(bands).astype(np.uint8, copy=False)


def _open_slide(
    data: Contents, record: ImageRecord, config: ImagesConfig, at_least: int
) -> Sample | None:
    """A sample of a tiled TIFF of so many pixels, not decoded yet; None where it must be decoded.

    Whatever is wrong with the file is left to the decoder to say.
    """
    if sniffed(data) != "TIFF" or config.channels or config.projection != "none":
        return None
    try:
        pixels: Any = SlidePixels(data, of_plane(config, record.plane))
    except Exception:
        return None
    height, width, _ = pixels.shape
    if height * width < at_least:
        return None
    note = "; ".join(pixels.notes)
    return Sample(record, pixels, (height, width), image_format="TIFF", note=note)


# Bands: an image that memory does not hold is decoded into a file.


class FilePixels:
    """HxWx3 uint8, upright, as an array in a file without a name; read where it is sliced.

    The file lies in the folder for temporary files and takes 3 bytes a pixel there.

    Args:
        data: The whole image file: a PNG, a JPEG or a TIFF.
        config: Pixel limit.

    Raises:
        NotInBandsError: It has to be decoded at once, or there is no room for the file.
        UndecodableError: It is cut, damaged or larger than it may be even so.
    """

    def __init__(self, data: Contents, config: ImagesConfig) -> None:
        self._arguments = data, config
        source = _SOURCES[sniff(data)](data, config)
        height, width = source.hw
        if not height * width:
            raise UndecodableError(ErrorCode.DECODE_ERROR, f"{sniff(data)}: it has no pixels")
        check_size(
            height, width, config, bytes_a_pixel=_BYTES_A_PIXEL + source.more_bytes, tiled=True
        )
        self._file = _file_of(3 * height * width)
        self._stored = np.frombuffer(self._file, np.uint8).reshape(height, width, 3)
        notes = dict.fromkeys(source.notes)
        for more in source.fill(self._stored):
            notes.update(dict.fromkeys(more))
            self._forget()
        self.notes = tuple(notes)
        self.orientation = source.orientation
        turned = source.orientation >= 5
        self.shape = (width, height, 3) if turned else (height, width, 3)
        self.dtype = np.dtype(np.uint8)
        self.ndim = 3
        self.nbytes = len(data)

    def __reduce__(self) -> tuple[Any, ...]:
        return FilePixels, self._arguments

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:, :], dtype)

    def __getitem__(self, place: slice | tuple[slice, ...]) -> Pixels:
        """The pixels of these rows and columns, each a slice without a step."""
        rows, columns, *rest = (*(place if isinstance(place, tuple) else (place,)), slice(None))
        window = [
            range(length)[one] for one, length in zip((rows, columns), self.shape, strict=False)
        ]
        mirrored = MIRRORED[self.orientation]
        if self.orientation >= 5:
            window.reverse()
        stored = tuple(
            slice(length - one.stop, length - one.start)
            if axis in mirrored
            else slice(one.start, one.stop)
            for axis, (one, length) in enumerate(zip(window, self._stored.shape, strict=False))
        )
        part = np.flip(self._stored[stored], mirrored)
        upright = part.swapaxes(0, 1) if self.orientation >= 5 else part
        found = np.array(upright[(slice(None), slice(None), *rest[:1])])
        self._forget()
        return found

    def _forget(self) -> None:
        """Keeps what was written or read out of this process's memory; the file has it."""
        self._file.madvise(mmap.MADV_DONTNEED)


def decode_by_bands(
    data: Contents, record: ImageRecord, config: ImagesConfig, refusal: Failure
) -> Sample | Failure:
    """A sample whose pixels lie in a file, of an image that memory does not hold.

    Args:
        data: The whole file.
        record: Where it came from.
        config: Which plane is asked for.
        refusal: What decoding it at once said.

    Returns:
        The sample; or the refusal, with the reason why it cannot be decoded in bands.
    """
    kind = sniffed(data)
    try:
        if kind not in _SOURCES:
            raise NotInBandsError(f"{kind} is not decoded in bands")
        plane = of_plane(config, record.plane)
        chosen = (
            plane.projection != "none" or plane.channels or plane.page not in (None, "first", 1)
        )
        if chosen:
            raise NotInBandsError("with a choice of pages or channels it is not decoded in bands")
        pixels: Any = FilePixels(data, plane)
    except NotInBandsError as error:
        message = f"{refusal.message.partition(';')[0]}; {error}: set images.max_pixels"
        return Failure(ErrorCode.TOO_LARGE, message, temporary=True)
    except UndecodableError as error:
        return Failure(error.code, str(error), temporary=error.temporary)
    except Exception as error:
        reason = explain_decoding(kind, error, data)
        return unread(data) or Failure(reason.code, str(reason))
    height, width, _ = pixels.shape
    return Sample(
        record=record,
        pixels=pixels,
        original_hw=(height, width),
        orientation=pixels.orientation,
        image_format=kind,
        note="; ".join(pixels.notes),
    )


def _file_of(size: int) -> mmap.mmap:
    with tempfile.TemporaryFile(prefix="maskmill-") as file:
        try:
            # Room that is missing would otherwise end the process where it is written to.
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            folder = tempfile.gettempdir()
            raise NotInBandsError(
                f"no room for {size / 1e9:.1f} GB in {folder} ({error.strerror})"
            ) from None
        return mmap.mmap(file.fileno(), size)


_SOURCES: dict[str, Callable[[Contents, ImagesConfig], Bands]] = {
    "JPEG": lambda data, config: jpeg_bands(data[:], config),
    "PNG": lambda data, config: png_bands(data[:], config, _BAND),
    "TIFF": lambda data, config: tiff_bands(data, config, _BAND),
}
"""Kind as `sniff` names it → what is read of it in bands."""
