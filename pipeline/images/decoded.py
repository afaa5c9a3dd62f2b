"""What every decoder returns, and the steps they share."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from schemas.config.images import ImagesConfig
from schemas.records import ErrorCode

from .stretch import stretch

Pixels = npt.NDArray[np.uint8]

_ORIENTATION = 0x0112
_BAND = 1 << 24  # pixels

# Pillow's limit is one for the whole process and below what a survey camera takes; every picture
# is measured by `memory.check_size` instead, before a pixel is decoded.
Image.MAX_IMAGE_PIXELS = None
# Remarks about damaged metadata, without a file's name; what matters becomes a note or a failure.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\..*Plugin")


@dataclass(frozen=True, slots=True)
class Decoded:
    """Decoded pixels.

    Attributes:
        pixels: HWC uint8 RGB, as stored (not rotated), possibly scaled down.
        stored_hw: (height, width) in the file.
        orientation: EXIF orientation, 1…8.
        notes: What was dropped or assumed.
        values: HxW or HxWxC, as stored, where `pixels` could not hold them: deeper than 8 bits,
            or of more bands; turned over where 0 was white. None where `pixels` says it all.
        first: Place of the only one of the values' bands that is seen, where those are channels
            and nobody chose; None = as bands are shown.
    """

    pixels: Pixels
    stored_hw: tuple[int, int]
    orientation: int
    notes: tuple[str, ...] = ()
    values: npt.NDArray[Any] | None = None
    first: int | None = None


class UndecodableError(Exception):
    """An image that cannot be decoded, and why.

    Attributes:
        code: A stable word.
        temporary: Whether another worker, with more memory, may decode it.
    """

    def __init__(self, code: ErrorCode, message: str, *, temporary: bool = False) -> None:
        super().__init__(re.sub(r" at 0x[0-9a-f]+", "", " ".join(message.split()))[:300])
        self.code = code
        self.temporary = temporary


class NotInBandsError(Exception):
    """An image that has to be decoded at once, and why."""


@dataclass(frozen=True, slots=True)
class Bands:
    """An image that is decoded some rows at a time.

    Attributes:
        hw: (height, width) as stored.
        orientation: EXIF orientation, 1…8.
        fill: Writes all pixels, HxWx3 as stored; what it yields after each band are notes.
        notes: What was assumed.
        more_bytes: That decoding takes a pixel, beside the band.
    """

    hw: tuple[int, int]
    orientation: int
    fill: Callable[[Pixels], Iterator[tuple[str, ...]]]
    notes: tuple[str, ...] = ()
    more_bytes: int = 0


def exif_orientation(image: ImageFile.ImageFile) -> tuple[int, tuple[str, ...]]:
    """Orientation 1…8 as Pillow's `exif_transpose` finds it, and a note if it cannot be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken EXIF block is no reason to lose the picture
        return 1, ("EXIF unreadable, taken as upright",)
    return (value, ()) if isinstance(value, int) and 1 <= value <= 8 else (1, ())


def from_pillow(
    image: ImageFile.ImageFile, orientation: int, notes: tuple[str, ...] = ()
) -> Decoded:
    """A loaded 8-bit Pillow image of any mode, its alpha dropped."""
    plain: Image.Image = image
    if image.mode in ("RGBa", "La"):  # colours multiplied by alpha: divide it out
        plain = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    if _is_transparent(plain):
        notes += ("alpha dropped",)
    hw = image.height, image.width
    if plain.mode == "L":  # a third of the bytes on the way out of Pillow
        return Decoded(_repeated(np.asarray(plain)), hw, orientation, notes)
    return Decoded(
        _pixels(plain if plain.mode == "RGB" else plain.convert("RGB")), hw, orientation, notes
    )


def _repeated(grey: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)


def _pixels(image: Image.Image) -> Pixels:
    """An RGB image as an array; a large one in bands, for Pillow makes two copies on the way."""
    width, height = image.size
    rows = max(1, _BAND // width)
    if height <= rows:
        return np.asarray(image)
    out = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        out[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return out


def from_deep(
    pixels: npt.NDArray[Any],
    orientation: int,
    notes: tuple[str, ...],
    config: ImagesConfig,
    *,
    inverted: bool = False,
    bands: npt.NDArray[Any] | None = None,
    first: int | None = None,
) -> Decoded:
    """HxW or HxWx3 values of any type, stretched to 8 bits; `inverted` where 0 is white.

    `bands` are all the values of the file, where those are a choice of them, and `first` as in
    `Decoded`.
    """
    shallow = pixels if pixels.dtype == np.uint8 else stretch(pixels, config.stretch_16bit)
    if inverted:
        shallow = 255 - shallow
    height, width = shallow.shape[:2]
    rgb = np.broadcast_to(shallow[..., None], (height, width, 3)) if shallow.ndim == 2 else shallow
    whole = pixels if bands is None else bands
    plain = whole.dtype == np.uint8 and whole.shape == pixels.shape
    values = None if plain else _turned_over(whole) if inverted else whole
    return Decoded(np.ascontiguousarray(rgb), (height, width), orientation, notes, values, first)


def full_range(values: npt.NDArray[Any], bits: int) -> npt.NDArray[Any]:
    """1…7 bits as 8, of which the largest value is 255."""
    if values.dtype.kind not in "bu" or bits >= 8:
        return values
    most = (1 << bits) - 1
    return np.rint(values.astype(np.float32) * (255 / most)).astype(np.uint8)


def divided(colors: npt.NDArray[Any], alpha: npt.NDArray[Any], opaque: int) -> npt.NDArray[Any]:
    """Colours before they were multiplied by alpha; none where that is 0, as in Pillow."""
    clear = alpha <= 0
    if colors.dtype.kind not in "iu":
        divided = colors / np.where(clear, 1, alpha)[..., None].astype(colors.dtype)
    else:
        wide = colors.astype(np.int64 if colors.dtype.itemsize <= 2 else np.float64)
        whole = wide * opaque // np.where(clear, opaque, alpha)[..., None].astype(wide.dtype)
        divided = np.minimum(whole, opaque).astype(colors.dtype)
    divided[clear] = 0
    return divided


def _turned_over(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values of which 0 was white, as values of which 0 is black."""
    return np.iinfo(values.dtype).max - values if values.dtype.kind == "u" else -values


def _is_transparent(image: Image.Image) -> bool:
    if "transparency" in image.info:
        return True
    return image.mode in ("RGBA", "LA", "PA") and image.getextrema()[-1] != (255, 255)
