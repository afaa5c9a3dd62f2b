"""TIFF's first page: Pillow decodes 8 bits, tifffile (or OpenCV, for its codecs) more."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import TiffImagePlugin

from schemas.config.job import ImagesConfig
from schemas.records import ErrorCode

from .decoded import Decoded, UndecodableError, check_size, from_deep, from_pillow

# OpenCV says on stderr which tags of a GeoTIFF it does not know; failures are told by its result.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_ORIENTATION = 274
_SIMPLE_BANDS = {"MINISWHITE": 1, "MINISBLACK": 1, "RGB": 3}


def decode_tiff(data: bytes, config: ImagesConfig, min_side: int | None) -> Decoded:
    """Decodes the first page.

    Deep pages (16 or 32 bits, floats) are stretched to 8 bits. Of more than three bands the first
    three are taken for red, green and blue; of two, the first for grey.

    Raises:
        UndecodableError: The page is missing, cut, too large or of a kind that nothing here reads.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = _first_page(file, data)
        check_size(page.imagelength, page.imagewidth, config)
        pages = len(file.pages)
        notes = (f"first of {pages} pages",) if pages > 1 else ()
        orientation = page.tags.valueof(_ORIENTATION, default=1)
        if not (isinstance(orientation, int) and 1 <= orientation <= 8):
            orientation = 1
        if _fits_pillow(page):
            image = TiffImagePlugin.TiffImageFile(io.BytesIO(_as_stored(data, file, page)))
            image.load()
            return from_pillow(image, orientation, notes)
        stored = _read(page, data)
        pixels, dropped = _choose_bands(stored, page)
        return from_deep(
            pixels,
            orientation,
            (*notes, *dropped),
            config,
            inverted=page.photometric.name == "MINISWHITE",
            bands=stored[..., :-1] if stored.ndim == 3 and _has_alpha(page) else stored,
        )


def _first_page(file: tifffile.TiffFile, data: bytes) -> Any:
    try:
        page: Any = file.pages[0]
    except IndexError:
        wide = data[2:4] in (b"+\x00", b"\x00+")  # BigTIFF: 8-byte offsets
        at = data[8:16] if wide else data[4:8]
        if int.from_bytes(at, "little" if data[:1] == b"I" else "big") + 2 > len(data):
            message = "TIFF: the file ends before its page directory"
            raise UndecodableError(ErrorCode.TRUNCATED, message) from None
        raise UndecodableError(ErrorCode.DECODE_ERROR, "TIFF: no page") from None
    parts = zip(page.dataoffsets, page.databytecounts, strict=False)
    if any(offset + count > len(data) for offset, count in parts):
        raise UndecodableError(ErrorCode.TRUNCATED, "TIFF: the file ends inside the picture")
    if not page.imagelength or not page.imagewidth:
        raise UndecodableError(ErrorCode.DECODE_ERROR, "TIFF: the page has no pixels")
    return page


def _fits_pillow(page: Any) -> bool:
    bits = page.bitspersample
    deepest = max(bits) if isinstance(bits, tuple) else bits
    unsigned = page.sampleformat in (1, 4)  # 4: undefined
    bands = page.samplesperpixel
    further = bands - _SIMPLE_BANDS.get(page.photometric.name, bands)
    known = bands <= 4 and (further <= 0 or (further == 1 and _has_alpha(page)))
    return deepest <= 8 and unsigned and known and page.imagedepth == 1


def _has_alpha(page: Any) -> bool:
    return any(kind in (1, 2) for kind in page.extrasamples)


def _as_stored(data: bytes, file: tifffile.TiffFile, page: Any) -> bytes:
    """The file with its orientation set to 1: of all formats, Pillow turns only TIFF upright."""
    tag = page.tags.get(_ORIENTATION)
    if tag is None or tag.value == 1:
        return data
    order = "little" if file.byteorder == "<" else "big"
    end = tag.valueoffset + tag.valuebytecount
    return data[: tag.valueoffset] + (1).to_bytes(tag.valuebytecount, order) + data[end:]


def _read(page: Any, data: bytes) -> npt.NDArray[Any]:
    """The page's values, YX or YXS."""
    if page.photometric.name not in _SIMPLE_BANDS or page.dtype is None or page.dtype.kind == "c":
        raise _unsupported(page)
    try:
        pixels = page.asarray()
    except (ValueError, ImportError):  # a codec that tifffile has only with imagecodecs: LZW, …
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise _unsupported(page) from None
        bands = pixels.shape[2] if pixels.ndim == 3 else 1
        return pixels if bands == 1 else pixels[..., [2, 1, 0, 3][:bands]]
    axes = page.axes
    for name in "ZTIQ":  # a volume in one page: its first plane
        if name in axes:
            pixels = np.take(pixels, 0, axis=axes.index(name))
            axes = axes.replace(name, "")
    return np.moveaxis(pixels, 0, -1) if axes == "SYX" else pixels


def _choose_bands(pixels: npt.NDArray[Any], page: Any) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    notes: tuple[str, ...] = ("first plane of a volume",) if page.imagedepth > 1 else ()
    if pixels.ndim == 2:
        return pixels, notes
    bands = pixels.shape[2]
    color = _SIMPLE_BANDS[page.photometric.name]
    if bands == color:
        return pixels[..., 0] if bands == 1 else pixels, notes
    if bands == color + 1 and _has_alpha(page):
        return pixels[..., :color] if color > 1 else pixels[..., 0], (*notes, "alpha dropped")
    if bands == 2:
        return pixels[..., 0], (*notes, "first of 2 bands")
    return pixels[..., :3], (*notes, f"first 3 of {bands} bands")


def _unsupported(page: Any) -> UndecodableError:
    bits = page.bitspersample
    depth = max(bits) if isinstance(bits, tuple) else bits
    return UndecodableError(
        ErrorCode.UNSUPPORTED,
        f"TIFF: {page.photometric.name} with {page.samplesperpixel} × {depth} bits, "
        f"compression {page.compression.name} is not supported",
    )
