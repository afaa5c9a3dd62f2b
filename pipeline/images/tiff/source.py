"""TIFF by tifffile and imagecodecs: which of its planes are one picture, and how it is shown."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from pipeline.storage.file_bytes import Contents, open_contents
from schemas.config.images import ImagesConfig
from schemas.notes import first_of
from schemas.records import ErrorCode

from ..decoded import Bands, Decoded, NotInBandsError, Pixels, UndecodableError, from_deep
from ..memory import check_size, deep_bytes
from ..stack import ImageStack, Picked, pick
from .page import PageValues, check_strips, decode_segment, is_plain, read_page
from .scale import channel_names, ome_image, scale_of

# It says on stderr, without a file's name, what becomes a note or a failure here.
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)

_ORIENTATION, _DNG = 274, 50706
_REDUCED, _MASK = 1, 4
_PLAIN = ("uniform", "generic")
_SLIDES = ("svs", "ndpi", "scn", "bif", "philips", "qpi", "avs")
"""Kinds whose further series are a label, an overview or a thumbnail of the one picture."""

Values = npt.NDArray[Any]


def decode_tiff(data: Contents, config: ImagesConfig, min_side: int | None) -> Decoded:
    """Decodes one picture of a TIFF.

    OME, ImageJ and other microscopes' files say which pages are depths, times and channels; what
    is read of them is the config's choice, or the first of each. Deep pages (16 or 32 bits,
    floats) are stretched to 8 bits. Of more than three bands the first three are taken for red,
    green and blue; of two, the first for grey.

    Raises:
        UndecodableError: The page is missing, cut, too large or of a kind that nothing here reads.
    """
    with tifffile.TiffFile(open_contents(data)) as file:
        source = TiffSource(file, data, config)
        stack = source.stack()
        bands = source.bands * stack.sizes.get("C", 1)
        check_size(*source.hw, config, bytes_a_pixel=deep_bytes(bands, source.itemsize))
        picked = pick(stack, config)
        page = source.first_read
        notes = (*source.notes, *picked.notes, *page.notes)
        shown, more = _shown(picked, page.color)
        return from_deep(
            shown,
            source.orientation,
            (*notes, *more),
            config,
            inverted=page.inverted and config.projection == "none",
            bands=shown if config.channels else picked.values,
            first=0 if picked.channels else None,
        )


def count_planes(data: Contents, axis: str) -> int:
    """How many pages ("page"), depths ("z") or time points ("time") a TIFF has; at least 1.

    Raises:
        UndecodableError: It has no page that can be read.
    """
    with tifffile.TiffFile(open_contents(data)) as file:
        stack = TiffSource(file, data, ImagesConfig()).stack()
    if axis == "time":
        return stack.sizes.get("T", 1)
    if axis == "z":
        return stack.sizes.get("Z", 1)
    axes = stack.page_axes or stack.long("T")
    return stack.sizes[axes[0]] if axes else 1


class TiffSource:
    """An open TIFF, and the series of it that is asked for.

    Attributes:
        key: Page whose tags hold for all planes.
        full: The same page at full size, where `key` is a level of a pyramid.
        ome: What the file's OME-XML says of the image.
        hw: (height, width) of a plane.
        notes: What was left out beside the stack's planes.
        first_read: The first plane that was read, with what is to be said of it.
        orientation: Of that plane, 1…8.
    """

    def __init__(self, file: tifffile.TiffFile, data: Contents, config: ImagesConfig) -> None:
        self._data = data
        self._config = config
        self._read: PageValues | None = None
        self.notes: tuple[str, ...] = ()
        first = _first_page(file, data)
        self._series: Any = None
        self._pages: list[Any] = [first]
        self.ome: Any = None
        every = _all_series(file)
        kind = every[0].kind if every else "generic"
        if kind in _PLAIN and config.series is None and not (config.level or config.mpp):
            if _DNG in first.tags:
                raise UndecodableError(ErrorCode.UNSUPPORTED, "TIFF: camera raw is not supported")
            self._pages = _plain_pages(file) or [first]
            self.key = self.full = self._pages[0]
        else:
            whole = every[_chosen_series(every, config.series)]
            self.ome = _ome_of(whole)
            self._series, self.notes = _chosen_level(whole, config)
            self.key, self.full = self._series.keyframe, whole.keyframe
            if len(every) > 1 and config.series is None and kind not in _SLIDES:
                self.notes += (first_of(len(every), "series"),)
            self._leave_other_files()
            if kind == "bif":
                self.notes += ("fields of the scanner laid edge to edge, not stitched",)
        self.orientation = _orientation_of(self.key)
        self.hw = int(self.key.imagelength), int(self.key.imagewidth)
        if not all(self.hw):
            raise UndecodableError(ErrorCode.DECODE_ERROR, "TIFF: the page has no pixels")
        self.bands = int(self.key.samplesperpixel)
        self.itemsize = max(1, (self.key.bitspersample or 8) // 8)

    @property
    def first_read(self) -> PageValues:
        """See the class."""
        if self._read is None:
            raise UndecodableError(ErrorCode.DECODE_ERROR, "TIFF: no page")
        return self._read

    def _leave_other_files(self) -> None:
        """Of a set of OME files, of which each has some planes, only the own ones can be read."""
        pages = list(self._series.pages)
        own = [page for page in pages if page is not None]
        config = self._config
        chosen = config.page or config.time or config.channels or config.projection != "none"
        if own and len(own) < len(pages) and not chosen:
            self.notes += (f"{len(own)} of {len(pages)} planes are in this file",)
            self._series, self._pages = None, own
            self.key = self.full = own[0].keyframe

    def only_page(self) -> Any:
        """The page, where the file or series has one plane; else None."""
        pages = self._pages if self._series is None else list(self._series.pages)
        return pages[0] if len(pages) == 1 else None

    def stack(self) -> ImageStack:
        """The planes; none is read yet."""
        depth = {"Z": int(self.key.imagedepth)} if self.key.imagedepth > 1 else {}
        if self._series is None:
            sizes = {"I": len(self._pages), **depth}
            return ImageStack(sizes, lambda at: self._plane(self._pages[at["I"]], at, bool(depth)))
        axes, shape = self._series.axes, self._series.shape
        inner = len(self.key.shape)
        if tuple(shape[-inner:]) != tuple(self.key.shape):
            raise UndecodableError(ErrorCode.UNSUPPORTED, f"TIFF: pages of the axes {axes}")
        outer = {
            axis if axis in "ZTCYXS" else f"{axis}{place}": int(count)  # a file may have two I
            for place, (axis, count) in enumerate(zip(axes[:-inner], shape[:-inner], strict=True))
        }
        sizes = outer if "Z" in outer or not depth else {**outer, **depth}
        within = bool(depth) and "Z" not in outer

        def plane(at: Mapping[str, int]) -> Values:
            place = 0
            for axis, count in outer.items():
                place = place * count + at[axis]
            return self._plane(self._page(place, math.prod(outer.values())), at, within)

        return ImageStack(sizes, plane, channel_names(self.ome))

    def _page(self, place: int, count: int) -> Any:
        """The page of a plane; planes of one long block of bytes have only one between them."""
        series = self._series
        if len(series.pages) < count and series.dataoffset is not None:
            return _Block(self.key, series.dataoffset + place * self.key.nbytes)
        page = series.pages[place] if place < len(series.pages) else None
        if page is None:
            message = f"TIFF: plane {place + 1} of {count} is not in this file"
            raise UndecodableError(ErrorCode.DECODE_ERROR, message)
        return page

    def _plane(self, page: Any, at: Mapping[str, int], volume: bool) -> Values:
        key = page.keyframe
        hw = int(key.imagelength), int(key.imagewidth)
        if hw != self.hw:
            more = deep_bytes(int(key.samplesperpixel), max(1, (key.bitspersample or 8) // 8))
            check_size(*hw, self._config, bytes_a_pixel=more)
        read = read_page(page, self._data)
        values = read.values[at["Z"]] if volume else read.values
        if self._read is None:
            self._read = read
            self.orientation = _orientation_of(page)
        if read.inverted and self._config.projection != "none":
            top = np.iinfo(values.dtype).max if values.dtype.kind == "u" else 0
            return top - values
        return values


def _ome_of(series: Any) -> Any:
    """What OME-XML says of a series of tifffile's."""
    first = next((page for page in series.pages if page is not None), series.keyframe)
    return ome_image(series.keyframe.parent, first.index)


class _Block:
    """A plane inside a long block of uncompressed bytes, with a page's shape."""

    def __init__(self, key: Any, offset: int) -> None:
        self.keyframe = key
        self.index = None
        self.dataoffsets = (offset,)
        self.databytecounts = (key.nbytes,)

    def asarray(self, **_: Any) -> Values:
        """The values, of the key page's shape."""
        key = self.keyframe
        file = key.parent.filehandle
        file.seek(self.dataoffsets[0])
        dtype = np.dtype(key.parent.byteorder + key.dtype.char)
        return file.read_array(dtype, math.prod(key.shape)).reshape(key.shape)


def _first_page(file: tifffile.TiffFile, data: Contents) -> Any:
    try:
        return file.pages[0]
    except IndexError:
        wide = data[2:4] in (b"+\x00", b"\x00+")  # BigTIFF: 8-byte offsets
        at = data[8:16] if wide else data[4:8]
        if int.from_bytes(at, "little" if data[:1] == b"I" else "big") + 2 > len(data):
            message = "TIFF: the file ends before its page directory"
            raise UndecodableError(ErrorCode.TRUNCATED, message) from None
        raise UndecodableError(ErrorCode.DECODE_ERROR, "TIFF: no page") from None


def _all_series(file: tifffile.TiffFile) -> list[Any]:
    """Series as the file's program means them; none where that cannot be read."""
    try:
        found: list[Any] = [one for one in file.series if math.prod(one.shape)]
    except Exception:  # damaged metadata: its pages are still there
        return []
    return found


def _plain_pages(file: tifffile.TiffFile) -> list[Any]:
    """The pages but those that show another one smaller, or its mask.

    Where all of them are such, the picture lies below the first one (TIFF/EP, camera raw).
    """
    every = list(_readable(file.pages))
    below = list(_readable(every[0].pages)) if every and every[0].subifds else []
    return _whole(every) or _whole(below) or every[:1]


def _readable(pages: Any) -> Iterator[Any]:
    for index in range(len(pages)):
        try:
            page = pages[index]
        except Exception:  # a later page is damaged; those before it are there
            return
        yield page


def _whole(pages: list[Any]) -> list[Any]:
    return [page for page in pages if not int(page.subfiletype or 0) & (_REDUCED | _MASK)]


def _orientation_of(page: Any) -> int:
    """1…8; a page without tags of its own has those of its key."""
    tags = getattr(page, "tags", None) or page.keyframe.tags
    value = tags.valueof(_ORIENTATION, default=1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _chosen_series(every: list[Any], asked: int | str | None) -> int:
    names = [str(one.name) for one in every]
    if isinstance(asked, str) and asked in names:
        return names.index(asked)
    place = 0 if asked is None else asked - 1 if isinstance(asked, int) else -1
    if not 0 <= place < len(every):
        there = ", ".join(filter(None, names))
        message = f"images.series: there is no series {asked!r}, the file has {len(every)}"
        more = f" ({there})" if there else ""
        raise UndecodableError(ErrorCode.UNSUPPORTED, message + more)
    return place


def _shown(picked: Picked, color: int) -> tuple[Values, tuple[str, ...]]:
    """The one or three bands that are seen, and what was left out for them."""
    values, chosen = picked.values, picked.chosen
    if values.ndim == 2:
        return values, ()
    bands = values.shape[2]
    if chosen is not None:
        return values[..., chosen[0]] if len(chosen) == 1 else values[..., list(chosen)], ()
    if bands == color:
        return values[..., 0] if bands == 1 else values, ()
    if bands < 3:
        return values[..., 0], (first_of(bands, "bands"),) if bands == 2 else ()
    if bands > 3:
        return values[..., :3], (first_of(bands, "bands", taken=3),)
    return values, () if color == 3 else ("3 bands taken as red, green, blue",)


# Levels of a pyramid.

_TOLERANCE = 1.02


def _chosen_level(series: Any, config: ImagesConfig) -> tuple[Any, tuple[str, ...]]:
    """The level of a tifffile series that the config asks for, and a note that says which.

    Raises:
        UndecodableError: There is no such level, or the file does not say how large its pixels
            are.
    """
    levels = list(series.levels)
    place = config.level if config.mpp is None else _by_size(levels, config.mpp)
    if place >= len(levels):
        count = "1 level" if len(levels) == 1 else f"{len(levels)} levels"
        message = f"images.level = {place}: the image has {count}"
        raise UndecodableError(ErrorCode.UNSUPPORTED, message)
    return levels[place], (f"level {place} of {len(levels)}",) if place else ()


def _by_size(levels: list[Any], wanted: float) -> int:
    full = levels[0].keyframe
    finest = scale_of(full, _ome_of(levels[0]), likely=True)
    if finest is None:
        message = "images.mpp: the file does not say how large its pixels are"
        raise UndecodableError(ErrorCode.UNSUPPORTED, message)
    sizes = [finest.x * full.imagewidth / level.keyframe.imagewidth for level in levels]
    fitting = [place for place, size in enumerate(sizes) if size <= wanted * _TOLERANCE]
    return max(fitting, default=0)


def tiff_bands(data: Contents, config: ImagesConfig, pixels_at_once: int) -> Bands:
    """A TIFF of strips, by bands of about so many pixels.

    Raises:
        NotInBandsError: It is not one page of 8-bit grey or RGB, in strips that are small.
    """
    file = tifffile.TiffFile(open_contents(data))
    source = TiffSource(file, data, config)
    page, key = source.only_page(), source.key
    if page is None or key.is_tiled or not is_plain(key):
        raise NotInBandsError("only a TIFF of one page, 8-bit grey or RGB, is decoded in bands")
    notes = (*source.notes, *check_strips(page, key, data))
    height, width = source.hw
    rows, step = min(key.rowsperstrip, height), max(1, pixels_at_once // width)
    if rows > step and not key.is_contiguous:
        raise NotInBandsError("a TIFF in strips so large is not decoded in bands")

    def fill(pixels: Pixels) -> Iterator[tuple[str, ...]]:
        if key.is_contiguous:
            row = width * key.samplesperpixel
            for top in range(0, height, step):
                begin = page.dataoffsets[0] + top * row
                stored = data[begin : begin + min(step, height - top) * row]
                part = np.frombuffer(stored, np.uint8)
                pixels[top : top + step] = part.reshape(-1, width, key.samplesperpixel)
                yield ()
            return
        for index in range(-(-height // rows)):
            top = index * rows
            strip = decode_segment(data, page, index)
            pixels[top : top + rows] = 0 if strip is None else strip
            if top // step != (top + rows) // step:
                yield ()

    return Bands((height, width), source.orientation, fill, notes)
