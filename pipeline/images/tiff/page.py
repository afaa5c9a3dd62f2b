"""One page of a TIFF as values: every part of it there, in colours that mean what they say."""

from __future__ import annotations

import io
import math
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, TiffImagePlugin

from pipeline.storage.errors import StorageError
from pipeline.storage.file_bytes import Contents
from schemas.records import ErrorCode

from ..decoded import UndecodableError, divided, full_range

Values = npt.NDArray[Any]

_GREY, _COLOR = ("MINISWHITE", "MINISBLACK"), ("RGB", "YCBCR")
_OF_PILLOW = ("YCBCR", "CIELAB")
"""Photometrics of 8 bits that Pillow turns into RGB, where tifffile does not."""
_CHECKED = {1, 5, 8, 32946, 32773, 34925, 50000, 34926}
"""Compressions of bytes: what is missing of them shows, since the length of the pixels is known."""
_JPEG = {6, 7, 33007, 34892}
_ENDS = {
    **dict.fromkeys((*_JPEG, 33003, 33005, 34712), b"\xff\xd9"),  # JPEG and JPEG 2000
    34933: b"IEND",
}
"""Compressions of pictures → what each ends with: without it a part of it may have been cut."""
_APERIO_YCC = 33003
_BITS, _PHOTOMETRIC, _EXTRA, _COLORMAP, _INK_SET = 258, 262, 338, 320, 332
_COUNTS, _NO_DATA = (279, 325), 42113
_PREMULTIPLIED, _STRAIGHT = 1, 2


@dataclass(frozen=True, slots=True)
class PageValues:
    """What a page holds.

    Attributes:
        values: HxW, HxWxS or (volumes) DxHxW and DxHxWxS, without alpha.
        color: 3 where the first three bands are red, green and blue, else 1.
        inverted: Whether 0 is white.
        notes: What was dropped or assumed.
    """

    values: Values
    color: int
    inverted: bool = False
    notes: tuple[str, ...] = ()


def read_page(page: Any, data: Contents) -> PageValues:
    """The page's pixels.

    Args:
        page: A `tifffile.TiffPage` or `TiffFrame`.
        data: The whole file.

    Raises:
        UndecodableError: The page is cut, damaged, or of a kind that nothing here reads.
    """
    key = page.keyframe
    photometric = _photometric(key)
    _check_samples(page, key, photometric)
    notes = check_strips(page, key, data)
    if key.dtype is None or key.dtype.kind == "c":
        raise unsupported(key)
    if photometric in _OF_PILLOW and int(key.compression) not in _JPEG:
        return _through_pillow(page, data[:])
    if photometric not in (*_GREY, *_COLOR, "PALETTE", "SEPARATED", ""):
        raise unsupported(key)
    if photometric == "SEPARATED" and not _is_cmyk(key):
        raise unsupported(key)
    values = _bands_last(_decoded(page, key, cut="byte counts" in "".join(notes)), key.axes)
    color = 3 if photometric in _COLOR else 1
    if not photometric:
        color = 3 if key.samplesperpixel in (3, 4) else 1
        meaning = "RGB" if color == 3 else "0 is black"
        notes += (f"no PhotometricInterpretation, taken as {meaning}",)
    if photometric == "PALETTE":
        values, more = _colored(values, key)
        return PageValues(values, 3, notes=(*notes, *more))
    values = full_range(values, key.bitspersample)
    if photometric == "SEPARATED":
        return PageValues(_cmyk_to_rgb(values), 3, notes=notes)
    if int(key.compression) == _APERIO_YCC:
        values = np.asarray(cv2.cvtColor(values, cv2.COLOR_YCrCb2RGB)[..., :3], values.dtype)
    values, more = _without_alpha(values, color, _extra(key))
    values, missing = _without_no_data(values, key)
    return PageValues(values, color, photometric == "MINISWHITE", (*notes, *more, *missing))


def _without_no_data(values: Values, page: Any) -> tuple[Values, tuple[str, ...]]:
    """Floats with NaN for what GDAL's tag calls no data: such as −3.4e38, beside which all else is
    one grey."""
    text = str(page.tags.valueof(_NO_DATA, default=""))
    if values.dtype.kind != "f" or not text:
        return values, ()
    with suppress(ValueError):
        place = values == values.dtype.type(text.strip("\0 "))
        if place.any():
            return np.where(place, np.nan, values).astype(values.dtype), ("no-data values are 0",)
    return values, ()


def _photometric(page: Any) -> str:
    """The tag's name, "" where there is none."""
    if _PHOTOMETRIC not in page.tags:
        return ""
    return name_of(page.photometric)


def name_of(code: Any) -> str:
    """ "LZW" of tifffile's enumerations, the number of a code that has no name there."""
    return str(getattr(code, "name", code))


def _extra(page: Any) -> tuple[int, ...]:
    return tuple(int(kind) for kind in page.extrasamples or ())


def _check_samples(page: Any, key: Any, photometric: str) -> None:
    """Makes sure that tags which are missing do not turn bytes of one meaning into another's."""
    if photometric in _COLOR and key.samplesperpixel < 3:
        message = f"TIFF: {photometric} with {key.samplesperpixel} samples a pixel"
        raise UndecodableError(ErrorCode.DECODE_ERROR, message)
    if _BITS not in key.tags:  # then one bit is meant, and more bytes are there than it needs
        fits = int(key.compression) != 1 or sum(page.databytecounts) <= 2 * key.nbytes // 8 + 64
        if key.samplesperpixel > 1 or not fits:
            raise UndecodableError(ErrorCode.DECODE_ERROR, "TIFF: no BitsPerSample")


def check_strips(page: Any, key: Any, data: Contents) -> tuple[str, ...]:
    """Makes sure that every strip or tile is listed and inside the file; notes what is odd.

    Memory that no strip is written to would otherwise become pixels. Byte counts of a page that
    are missing, or reach beyond the next strip, are corrected in it.
    """
    if key.planarconfig not in (1, 2):  # stored in another type, tifffile takes it for planes
        raise UndecodableError(
            ErrorCode.DECODE_ERROR,
            "TIFF: PlanarConfiguration is neither 1 nor 2",
        )
    size, number = len(data), math.prod(key.chunked)
    name = "tiles" if key.is_tiled else "strips"
    over = [
        (index, offset)
        for index, (offset, count) in enumerate(
            zip(page.dataoffsets, page.databytecounts, strict=False)
        )
        if count and offset + count > size
    ]
    notes = _correct_counts(page, key, size, name)
    offsets, counts = page.dataoffsets, page.databytecounts
    if not key.is_contiguous and min(len(offsets), len(counts)) < number:
        raise UndecodableError(
            ErrorCode.TRUNCATED,
            f"TIFF: only {min(len(offsets), len(counts))} of {number} {name} are listed",
        )
    missing = sum(not (offset and count) for offset, count in zip(offsets, counts, strict=False))
    if missing >= number or not offsets:
        raise UndecodableError(ErrorCode.DECODE_ERROR, "TIFF: the page has no pixels")
    if missing:
        notes += (f"{missing} of {number} {name} are not stored, taken as empty",)
    if not over:
        return notes
    compression = int(key.compression)
    whole = all(offset < size for _, offset in over)
    if compression == 1 and key.is_contiguous:
        whole &= offsets[0] + key.nbytes <= size
    elif compression == 1:
        whole &= all(offset + _stored_bytes(key, index) <= size for index, offset in over)
    elif compression in _ENDS:
        end = _ENDS[compression]
        whole &= all(end in data[offset : offset + counts[index]] for index, offset in over)
    else:
        whole &= compression in _CHECKED
    if not whole:
        raise UndecodableError(ErrorCode.TRUNCATED, "TIFF: the file ends inside the picture")
    return tuple(dict.fromkeys((*notes, f"byte counts of {name} too large")))


def _correct_counts(page: Any, key: Any, size: int, name: str) -> tuple[str, ...]:
    """Makes byte counts end where the next strip begins, or the file; notes what was done.

    libtiff decodes no more of a strip than its pixels need, and so never looks at what is beyond.
    """
    offsets, counts = list(page.dataoffsets), list(page.databytecounts)
    unlisted = not any(tag in key.tags for tag in _COUNTS)
    compression = int(key.compression)
    if not unlisted and (compression == 1 or len(counts) < len(offsets)):
        return ()
    if unlisted and compression == 1:
        page.databytecounts = tuple(_stored_bytes(key, index) for index in range(len(offsets)))
        return (f"no byte counts of {name}",)
    ends = sorted({*filter(None, offsets), size})
    right = [
        min(count, ends[bisect_right(ends, offset)] - offset) if 0 < offset < size else count
        for offset, count in zip_longest(offsets, [size] * len(offsets) if unlisted else counts)
    ]
    if right == counts:
        return ()
    page.databytecounts = tuple(right)
    return (f"no byte counts of {name}" if unlisted else f"byte counts of {name} too large",)


def _stored_bytes(page: Any, index: int) -> int:
    """Bytes that an uncompressed strip or tile needs."""
    samples = page.samplesperpixel if int(page.planarconfig) == 1 else 1
    if page.is_tiled:
        rows, columns = page.tilelength * max(1, page.tiledepth), page.tilewidth
    else:
        strips = -(-page.imagelength // page.rowsperstrip)
        rows = min(page.rowsperstrip, page.imagelength - (index % strips) * page.rowsperstrip)
        columns = page.imagewidth
    return rows * -(-columns * samples * page.bitspersample // 8)


def _decoded(page: Any, key: Any, *, cut: bool) -> Values:
    """The page as stored, in memory that is all zero before a strip is written to it."""
    if key.compression not in tifffile.TIFF.DECOMPRESSORS:
        raise unsupported(key)
    try:
        if key.is_contiguous:
            values = page.asarray(maxworkers=1)
        else:
            blank = np.zeros(key.shaped, key.dtype)
            values = page.asarray(out=blank, maxworkers=1)
    except (ImportError, NotImplementedError):
        raise unsupported(key) from None
    except MemoryError:
        raise
    except Exception as error:
        if "not support" in str(error):
            raise unsupported(key) from None
        if cut:
            message = "TIFF: the file ends inside the picture"
            raise UndecodableError(ErrorCode.TRUNCATED, message) from None
        what = "pixels" if int(key.compression) == 1 else f"{name_of(key.compression)} data"
        raise UndecodableError(ErrorCode.DECODE_ERROR, f"TIFF: damaged {what}") from None
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _bands_last(values: Values, axes: str) -> Values:
    return np.moveaxis(values, axes.index("S"), -1) if "S" in axes[:-1] else values


def _colored(values: Values, page: Any) -> tuple[Values, tuple[str, ...]]:
    """Palette indices as RGB of 8 bits."""
    table = page.tags.valueof(_COLORMAP)
    size = 1 << page.bitspersample
    colors = np.asarray(table if table is not None else (), np.uint16)
    if colors.size != 3 * size or values.dtype.kind not in "bu":
        raise UndecodableError(ErrorCode.DECODE_ERROR, "TIFF: the palette is missing or damaged")
    # Some programs fill in 8 bits where 16 belong (libtiff looks for it in the same way).
    colors = colors if colors.max() < 256 else colors >> 8
    values, more = _without_alpha(values, 1, _extra(page))
    index = values[..., 0] if values.ndim > len(page.axes.replace("S", "")) else values
    return colors.reshape(3, size).T.astype(np.uint8)[index.astype(np.uint16)], more


def _is_cmyk(page: Any) -> bool:
    cmyk = page.tags.valueof(_INK_SET, default=1) == 1
    deep = page.dtype.kind == "u" and page.bitspersample in (8, 16)
    return cmyk and deep and page.samplesperpixel >= 4


def _cmyk_to_rgb(values: Values) -> Values:
    """Pillow's conversion, the same at 16 bits; bands beyond the four inks are dropped."""
    if values.ndim != 3:
        raise UndecodableError(ErrorCode.UNSUPPORTED, "TIFF: a volume in CMYK is not supported")
    inks = np.ascontiguousarray(values[..., :4])
    if inks.dtype == np.uint8:
        return np.asarray(Image.fromarray(inks, "CMYK").convert("RGB"))
    colors, black = (65535 - part for part in (inks[..., :3], inks[..., 3:]))
    product = colors.astype(np.uint32) * black + 32767
    return (product // 65535).astype(np.uint16)


def _without_alpha(
    values: Values, color: int, extra: tuple[int, ...]
) -> tuple[Values, tuple[str, ...]]:
    """The bands but alpha, which is divided out of the colours where they were multiplied by it."""
    kinds = [kind for kind in extra if kind in (_PREMULTIPLIED, _STRAIGHT)]
    place = color + extra.index(kinds[0]) if kinds else 0
    if not kinds or values.ndim < 3 or place >= values.shape[-1]:
        return values, ()
    alpha = values[..., place]
    integer = values.dtype.kind in "iu"
    opaque = np.iinfo(values.dtype).max if integer else 1
    notes = ("alpha dropped",) if (alpha < opaque).any() else ()
    rest = np.delete(values, place, axis=-1)
    if kinds[0] == _PREMULTIPLIED and notes:
        rest[..., :color] = divided(rest[..., :color], alpha, opaque)
    return rest, notes


def _through_pillow(page: Any, data: bytes) -> PageValues:
    """Colours that libtiff converts and tifffile does not, of 8 bits."""
    if page.keyframe.bitspersample != 8 or not isinstance(page.index, int):
        raise unsupported(page.keyframe)
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(as_stored(data, page.keyframe)))
    image.seek(page.index)
    image.load()
    return PageValues(np.asarray(image.convert("RGB")), 3)


def as_stored(data: bytes, page: Any) -> bytes:
    """The file with the page's orientation set to 1: Pillow turns TIFF, and only TIFF, upright."""
    tag = page.tags.get(274)
    if tag is None or tag.value == 1:
        return data
    order = "little" if page.parent.byteorder == "<" else "big"
    end = tag.valueoffset + tag.valuebytecount
    return data[: tag.valueoffset] + (1).to_bytes(tag.valuebytecount, order) + data[end:]


def unsupported(page: Any) -> UndecodableError:
    """The reason for a page of a kind that nothing here reads."""
    known = page.compression in tifffile.TIFF.DECOMPRESSORS
    if not known:
        message = f"TIFF: compression {name_of(page.compression)} is not supported"
    else:
        message = (
            f"TIFF: {_photometric(page) or 'no photometric'} with {page.samplesperpixel} × "
            f"{page.bitspersample} bits, compression {name_of(page.compression)} is not supported"
        )
    return UndecodableError(ErrorCode.UNSUPPORTED, message)


# A page's tiles and strips, each by itself.


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
        and not (photometric == "YCBCR" and int(key.compression) not in (7, _APERIO_YCC))
    )


def decode_segment(data: Contents, page: Any, index: int) -> npt.NDArray[np.uint8] | None:
    """A tile or strip of a TIFF whose page `is_plain`, HxWx3; None where it is not stored.

    Raises:
        UndecodableError: It is damaged.
    """
    key = page.keyframe
    offset, count = page.dataoffsets[index], page.databytecounts[index]
    if not (offset and count):
        return None
    try:
        body = data[offset : offset + count]
    except StorageError as error:
        raise UndecodableError(ErrorCode.READ_ERROR, str(error)) from None
    tables = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader}
    try:
        values = key.decode(body, index, **tables)[0][0]
    except MemoryError:  # of this machine, not of the file
        raise
    except Exception:
        reason = f"TIFF: damaged {name_of(key.compression)} data"
        raise UndecodableError(ErrorCode.DECODE_ERROR, reason) from None
    if int(key.compression) == _APERIO_YCC:
        values = cv2.cvtColor(values, cv2.COLOR_YCrCb2RGB)
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)), np.uint8)
