"""PNG through Pillow, 16-bit colour through OpenCV; metadata that nothing needs costs no image."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence

import cv2
import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import PngImagePlugin

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
    from_deep,
    from_pillow,
)
from .memory import check_size, deep_bytes
from .pillow_kinds import count_frames, one_page, read_frames, with_channels
from .stretch import stretch_table

# It says on stderr, without a file's name, what its result tells.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_METADATA = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_PIXELS = (b"IDAT", b"fdAT")
_FRAMES = (b"acTL", b"fcTL", b"fdAT")
_LIMIT = PngImagePlugin.MAX_TEXT_CHUNK
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type → values a pixel."""
_GREY_ALPHA = 4
_CARRIERS = {1: 0, 2: 4, 3: 2, 4: 6}
"""Bytes a pixel → colour type of a PNG of 8 bits that is filtered in the same way."""


def decode_png(data: bytes, config: ImagesConfig, min_side: int | None) -> Decoded:
    """PNG; 16-bit colour through OpenCV, since Pillow keeps only its upper 8 bits.

    Raises:
        UndecodableError: Too large, or broken 16-bit data.
    """
    notes = _wrong_pixels(data)
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
    plain, skipped = _without_metadata(data)
    try:
        return _decode(plain, config), skipped
    except (ValueError, SyntaxError):
        plain, skipped = _without_metadata(data, every=True)
        if not skipped:
            raise
        return _decode(plain, config), skipped


def _decode(data: bytes, config: ImagesConfig) -> Decoded:
    depth, color_type = data[24:26]
    if data[12:16] == b"CgBI":
        raise UndecodableError(ErrorCode.UNSUPPORTED, "PNG: Apple's own kind is not supported")
    image = PngImagePlugin.PngImageFile(io.BytesIO(data))
    deep = depth == 16 and color_type != 0
    bytes_a_pixel = deep_bytes(4, 2) if deep else deep_bytes(1, depth // 8 or 1)
    check_size(image.height, image.width, config, bytes_a_pixel=bytes_a_pixel)
    if not deep:
        return read_frames(image, config)
    frames = count_frames(image)
    if frames > 1 and (config.page not in (None, "first", 1) or config.projection != "none"):
        raise UndecodableError(ErrorCode.UNSUPPORTED, "PNG: frames of 16-bit colour")
    one_page(config, frames)
    notes = (first_of(frames, "frames"),) if frames > 1 and config.page is None else ()
    image.load()  # strict about missing data; and EXIF may stand behind the pixels
    body = b"".join(data[at + 8 : end - 4] for kind, at, end in _chunks(data) if kind == b"IDAT")
    pixels, alpha = _deep(data[16:29], body)
    orientation, more = exif_orientation(image)
    if alpha is not None and alpha.min() < 65535:
        more += ("alpha dropped",)
    return from_deep(pixels, orientation, (*notes, *more), config)


def _deep(
    header: bytes, body: bytes
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16] | None]:
    """HxW or HxWx3 values of a PNG of 16 bits, and its alpha.

    libpng sees a header and pixels alone: what else the file has it may refuse, or speak of.
    """
    plain = b"".join((_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", body), _chunk(b"IEND")))
    found = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None:
        raise UndecodableError(ErrorCode.DECODE_ERROR, "PNG: broken 16-bit data")
    values = np.asarray(found, np.uint16)
    if values.ndim == 2:
        return values, None
    alpha = values[..., 3] if values.shape[2] == 4 else None
    return values[..., 0] if header[9] == _GREY_ALPHA else values[..., 2::-1], alpha


def _chunk(kind: bytes, body: bytes = b"") -> bytes:
    check = zlib.crc32(body, zlib.crc32(kind))
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, first byte, byte after the last) of each whole chunk."""
    at = len(_SIGNATURE)
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


def _wrong_pixels(data: bytes) -> tuple[str, ...]:
    """A note where the checksum of pixels is wrong, which Pillow does not look at."""
    wrong = any(
        kind in _PIXELS and not _is_intact(data, at, end) for kind, at, end in _chunks(data)
    )
    return ("wrong checksum of the pixels",) if wrong else ()


def _without_metadata(data: bytes, *, every: bool = False) -> tuple[bytes, tuple[str, ...]]:
    """The file without those texts, profiles and other unneeded chunks that Pillow refuses.

    Args:
        data: The whole file.
        every: All that is not needed goes, whole or not.

    Returns:
        The file that is left, and a note on each kind that is not.
    """
    kept, notes, end = [data[: len(_SIGNATURE)]], [], len(_SIGNATURE)
    for kind, at, end in _chunks(data):
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


# PNG: each band is made a small PNG of its own, which Pillow decodes.


def png_bands(data: bytes, config: ImagesConfig, pixels_at_once: int) -> Bands:
    """A PNG by bands of about so many pixels; of 16 bits twice, the first time to count values.

    Raises:
        NotInBandsError: It is interlaced.
    """
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    found = list(_chunks(data))
    if interlaced:
        raise NotInBandsError("a PNG that is interlaced is not decoded in bands")
    colors = b"".join(data[at:end] for kind, at, end in found if kind in (b"PLTE", b"tRNS"))
    bodies = [(at + 8, end - 4) for kind, at, end in found if kind == b"IDAT"]
    rows_at_once = max(1, pixels_at_once // width)

    def deep() -> Iterator[tuple[npt.NDArray[np.uint16], tuple[str, ...]]]:
        row = _SAMPLES[color] * width * 2
        above = bytes(row)
        for rows in _inflated_rows(data, bodies, row + 1, height, rows_at_once):
            header = struct.pack(">IIBBBBB", width, 1 + len(rows), 16, color, 0, 0, 0)
            values, alpha = _deep(header, zlib.compress(b"\0" + above + rows.tobytes(), 0))
            parts = [
                values[-1].reshape(width, -1),
                *([] if alpha is None else [alpha[-1, :, None]]),
            ]
            above = np.hstack(parts).astype(">u2").tobytes()
            clear = alpha is not None and alpha[1:].min() < 65535
            yield values[1:], ("alpha dropped",) if clear else ()

    def fill_deep(pixels: Pixels) -> Iterator[tuple[str, ...]]:
        count = np.zeros(65536, np.int64)
        for values, _ in deep():
            count += np.bincount(values.reshape(-1), minlength=65536)
        table, top = stretch_table(count, config.stretch_16bit), 0
        for values, notes in deep():
            band = table[values]
            pixels[top : top + len(band)] = band if band.ndim == 3 else band[..., None]
            top += len(band)
            yield notes

    def fill(pixels: Pixels) -> Iterator[tuple[str, ...]]:
        bits = _SAMPLES[color] * depth
        row, step = -(-width * bits // 8), max(1, bits // 8)
        above = np.zeros((1, row), np.uint8)
        top = 0
        for rows in _inflated_rows(data, bodies, row + 1, height, rows_at_once):
            raw = _unfiltered(rows, above, step)
            above = raw[-1:]
            plain = np.pad(raw, ((0, 0), (1, 0)))  # 0 = not filtered
            image = _small_png(width, depth, color, plain, colors)
            picture = from_pillow(image, 1)
            pixels[top : top + len(rows)] = picture.pixels
            top += len(rows)
            yield picture.notes

    orientation, notes = _png_orientation(data, found)
    notes += (*_frames_noted(data, found, config), *_wrong_pixels(data))
    return Bands((height, width), orientation, fill_deep if depth == 16 else fill, notes)


def _frames_noted(
    data: bytes, found: Sequence[tuple[bytes, int, int]], config: ImagesConfig
) -> tuple[str, ...]:
    """A note on the frames of an animation behind the first, which is the picture."""
    kinds = [kind for kind, *_ in found]
    if b"acTL" not in kinds or config.page is not None:
        return ()
    at = found[kinds.index(b"acTL")][1] + 8
    apart = b"fcTL" not in kinds[: kinds.index(b"IDAT")]  # the picture is none of the frames
    count = int.from_bytes(data[at : at + 4], "big") + apart
    return (first_of(count, "frames"),) if count > 1 else ()


def _png_orientation(
    data: bytes, found: Sequence[tuple[bytes, int, int]]
) -> tuple[int, tuple[str, ...]]:
    """EXIF orientation 1…8 of a PNG's metadata, read from a PNG of one pixel that has all of it."""
    others = (b"IDAT", b"IEND", *_FRAMES)
    metadata = [data[at:end] for kind, at, end in found if kind not in others]
    plain, skipped = _without_metadata(_SIGNATURE + b"".join(metadata))
    rest = b"".join(plain[at:end] for kind, at, end in _chunks(plain) if kind != b"IHDR")
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

    header = struct.pack(">IIBBBBB", width, len(rows), depth, color, 0, 0, 0)
    parts = (
        _SIGNATURE,
        _chunk(b"IHDR", header),
        colors,
        _chunk(b"IDAT", zlib.compress(rows.tobytes(), 0)),
        _chunk(b"IEND"),
    )
    image = PngImagePlugin.PngImageFile(io.BytesIO(b"".join(parts)))
    image.load()
    return image
