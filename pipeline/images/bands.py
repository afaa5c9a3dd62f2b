"""An image larger than memory holds, decoded band by band into a file that tiles are read from."""

from __future__ import annotations

import io
import mmap
import os
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import PngImagePlugin

from schemas.config.images import ImagesConfig
from schemas.records import ErrorCode, Failure, ImageRecord, Sample

from .decode import MIRRORED, explain_decoding, of_plane
from .decoded import Pixels, UndecodableError, exif_orientation, from_pillow
from .jpeg import decode_jpeg_into, is_progressive, jpeg_header, jpeg_orientation
from .memory import check_size
from .png import png_chunks, without_metadata, wrong_pixels
from .slide import BYTES_A_PIXEL, decode_segment, is_plain
from .sniff import sniff
from .tiff import TiffSource
from .tiff_page import check_strips

_BAND = 1 << 22
"""Pixels that are decoded at once."""
_PROGRESSIVE = 6
"""More bytes a pixel: libjpeg keeps the coefficients of all scans."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type of a PNG → values a pixel."""
_CARRIERS = {1: 0, 2: 4, 3: 2, 4: 6}
"""Bytes a pixel → colour type of a PNG of 8 bits that is filtered in the same way."""

Fill = Callable[[Pixels], Iterator[tuple[str, ...]]]


class NotInBandsError(Exception):
    """An image that has to be decoded at once, and why."""


@dataclass(frozen=True, slots=True)
class _Source:
    """What is known of an image before its pixels are.

    Attributes:
        hw: (height, width) as stored.
        orientation: EXIF orientation, 1…8.
        fill: Writes HxWx3 pixels as stored; what it yields after each band are notes.
        notes: What was assumed.
        bytes_a_pixel: That decoding takes beside the file.
    """

    hw: tuple[int, int]
    orientation: int
    fill: Fill
    notes: tuple[str, ...] = ()
    bytes_a_pixel: int = BYTES_A_PIXEL


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

    def __init__(self, data: bytes, config: ImagesConfig) -> None:
        self._arguments = data, config
        source = _SOURCES[sniff(data)](data, config)
        height, width = source.hw
        check_size(height, width, config, bytes_a_pixel=source.bytes_a_pixel, tiled=True)
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
    data: bytes, record: ImageRecord, config: ImagesConfig, refusal: Failure
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
    kind = sniff(data)
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
        return Failure(reason.code, str(reason))
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


# JPEG.


def _of_jpeg(data: bytes, config: ImagesConfig) -> _Source:
    try:
        height, width, cmyk = jpeg_header(data)
    except ValueError:
        raise NotInBandsError("a JPEG of this kind is not decoded in bands") from None
    if cmyk:
        raise NotInBandsError("a JPEG in CMYK is not decoded in bands")

    def fill(pixels: Pixels) -> Iterator[tuple[str, ...]]:
        # libjpeg goes from row to row by itself; the system writes out what is done.
        yield decode_jpeg_into(pixels, data, config).notes

    more = _PROGRESSIVE if is_progressive(data) else 0
    return _Source((height, width), jpeg_orientation(data)[0], fill, (), BYTES_A_PIXEL + more)


# PNG: each band is made a small PNG of its own, which Pillow decodes.


def _of_png(data: bytes, config: ImagesConfig) -> _Source:
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    found = list(png_chunks(data))
    if interlaced or depth == 16 or any(kind == b"acTL" for kind, *_ in found):
        what = "interlaced" if interlaced else "of 16 bits" if depth == 16 else "with frames"
        raise NotInBandsError(f"a PNG that is {what} is not decoded in bands")
    colors = b"".join(data[at:end] for kind, at, end in found if kind in (b"PLTE", b"tRNS"))
    bodies = [(at + 8, end - 4) for kind, at, end in found if kind == b"IDAT"]

    def fill(pixels: Pixels) -> Iterator[tuple[str, ...]]:
        bits = _SAMPLES[color] * depth
        row, step = -(-width * bits // 8), max(1, bits // 8)
        above = np.zeros((1, row), np.uint8)
        top = 0
        for rows in _inflated_rows(data, bodies, row + 1, height, max(1, _BAND // width)):
            raw = _unfiltered(rows, above, step)
            above = raw[-1:]
            plain = np.pad(raw, ((0, 0), (1, 0)))  # 0 = not filtered
            image = _small_png(width, depth, color, plain, colors)
            picture = from_pillow(image, 1)
            pixels[top : top + len(rows)] = picture.pixels
            top += len(rows)
            yield picture.notes

    orientation, notes = _png_orientation(data, found)
    return _Source((height, width), orientation, fill, (*notes, *wrong_pixels(data)))


def _png_orientation(
    data: bytes, found: Sequence[tuple[bytes, int, int]]
) -> tuple[int, tuple[str, ...]]:
    """EXIF orientation 1…8 of a PNG's metadata, read from a PNG of one pixel that has all of it."""
    metadata = [data[at:end] for kind, at, end in found if kind not in (b"IDAT", b"IEND")]
    plain, skipped = without_metadata(_SIGNATURE + b"".join(metadata))
    rest = b"".join(plain[at:end] for kind, at, end in png_chunks(plain) if kind != b"IHDR")
    depth, color = data[24:26]
    row = np.zeros((1, 1 + -(-_SAMPLES[color] * depth // 8)), np.uint8)
    orientation, notes = exif_orientation(_small_png(1, depth, color, row, rest))
    return orientation, (*notes, *skipped)


def _inflated_rows(
    data: bytes, bodies: Sequence[tuple[int, int]], row: int, height: int, step: int
) -> Iterator[Pixels]:
    """The filtered rows of a PNG, `step` at a time, each with its filter's number before it."""
    inflater = zlib.decompressobj()
    size = step * row
    left, held = row * height, bytearray()
    for start, stop in bodies:
        waiting = memoryview(data)[start:stop]
        while left and waiting:
            held += inflater.decompress(waiting, min(size, left) - len(held))
            waiting = memoryview(inflater.unconsumed_tail)
            if len(held) == min(size, left):
                yield np.frombuffer(held, np.uint8).reshape(-1, row)
                left -= len(held)
                held = bytearray()
    if left:
        raise UndecodableError(ErrorCode.TRUNCATED, "PNG: the file ends inside the picture")


def _unfiltered(rows: Pixels, above: Pixels, step: int) -> Pixels:
    """Rows of bytes as they were before filtering, which looks `step` bytes to the left.

    Args:
        rows: N×(1+B), a filter's number and the bytes of each row.
        above: 1×B, the row before the first, not filtered.
        step: Bytes of a pixel.
    """
    count, length = len(rows), rows.shape[1] - 1
    pixels = -(-length // step)
    body = np.zeros((count + 1, 1 + pixels * step), np.uint8)
    body[0, 1 : 1 + length] = above
    body[1:, : 1 + length] = rows
    image = _small_png(pixels, 8, _CARRIERS[step], body)
    return np.asarray(image).reshape(count + 1, -1)[1:, :length]


def _small_png(
    width: int, depth: int, color: int, rows: Pixels, colors: bytes = b""
) -> PngImagePlugin.PngImageFile:
    """Loads rows of a PNG as one of their own."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(body, zlib.crc32(kind))
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, len(rows), depth, color, 0, 0, 0)
    parts = (
        _SIGNATURE,
        chunk(b"IHDR", header),
        colors,
        chunk(b"IDAT", zlib.compress(rows, 0)),
        chunk(b"IEND", b""),
    )
    image = PngImagePlugin.PngImageFile(io.BytesIO(b"".join(parts)))
    image.load()
    return image


# TIFF of strips.


def _of_tiff(data: bytes, config: ImagesConfig) -> _Source:
    file = tifffile.TiffFile(io.BytesIO(data))
    source = TiffSource(file, data, config)
    page, key = source.only_page(), source.key
    if page is None or key.is_tiled or not is_plain(key):
        raise NotInBandsError("only a TIFF of one page, 8-bit grey or RGB, is decoded in bands")
    notes = (*source.notes, *check_strips(page, key, len(data)))
    height, width = source.hw
    rows, step = min(key.rowsperstrip, height), max(1, _BAND // width)
    if rows > step and not key.is_contiguous:
        raise NotInBandsError("a TIFF in strips so large is not decoded in bands")
    orientation = key.tags.valueof(274, default=1)
    orientation = orientation if orientation in range(1, 9) else 1

    def fill(pixels: Pixels) -> Iterator[tuple[str, ...]]:
        if key.is_contiguous:
            count = height * width * key.samplesperpixel
            stored = np.frombuffer(data, np.uint8, count, page.dataoffsets[0])
            for top in range(0, height, step):
                part = stored.reshape(height, width, -1)[top : top + step]
                pixels[top : top + step] = part
                yield ()
            return
        for index in range(-(-height // rows)):
            top = index * rows
            strip = decode_segment(data, page, index)
            pixels[top : top + rows] = 0 if strip is None else strip
            if top // step != (top + rows) // step:
                yield ()

    return _Source((height, width), orientation, fill, notes)


_SOURCES: dict[str, Callable[[bytes, ImagesConfig], _Source]] = {
    "JPEG": _of_jpeg,
    "PNG": _of_png,
    "TIFF": _of_tiff,
}
"""Kind as `sniff` names it → what is read of it in bands."""
