"""How large a pixel is: as the user says it, or as the picture's file does."""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import tifffile
from PIL import Image

from pipeline.images.tiff.scale import dots_an_inch, is_of_screens, scale_of
from pipeline.images.tiff.source import TiffSource
from pipeline.storage.file_bytes import Contents, open_contents
from schemas.config.images import ImagesConfig
from schemas.lengths import MICROMETRES, micrometres_in

_NUMBER = re.compile(r"([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(\D+)")
_UNEVEN = 0.01
_INCH = 2


@dataclass(frozen=True, slots=True)
class PixelSize:
    """The side of a square pixel.

    Attributes:
        um: Micrometres.
        source: "given", "ome", "imagej", "geotiff", "dicom", "tiff" or "exif" (also JFIF and PNG).
        z_um: Micrometres from one plane of a stack to the next, None where unknown.
    """

    um: float
    source: str
    z_um: float | None = None


@dataclass(frozen=True, slots=True)
class PixelSizeChoice:
    """Where pixel sizes come from.

    Attributes:
        given: The same for every picture, or None.
        read: From the files: "all" that they say, "likely" (not what screens and printers have),
            or "none".
    """

    given: PixelSize | None = None
    read: Literal["all", "likely", "none"] = "none"


def parse_pixel_size(text: str) -> PixelSizeChoice:
    """Reads what the user said.

    Args:
        text: "0.5 um", "65nm", "0.3 m", …; "auto" = what files say unless it is what screens and
            printers have; "file" = whatever files say; "none".

    Raises:
        ValueError: Something else, or a size of 0.
    """
    word = text.strip().lower()
    if word in ("auto", "file", "none"):
        read: dict[str, Any] = {"auto": "likely", "file": "all", "none": "none"}
        return PixelSizeChoice(read=read[word])
    match = _NUMBER.fullmatch(text.strip())
    unit = micrometres_in(match[2]) if match else None
    um = float(match[1]) * unit if match and unit else 0.0
    if not 0 < um < math.inf:
        allowed = ", ".join(MICROMETRES)
        raise ValueError(
            f"pixel size {text!r} is neither auto, file, none nor a number with one of the units "
            f"{allowed}, such as '0.5 um'"
        )
    return PixelSizeChoice(given=PixelSize(um, "given"))


def pixel_size_of(
    data: Contents,
    *,
    likely: bool,
    images: ImagesConfig | None = None,
    long_side: int | None = None,
) -> PixelSize | None:
    """What a picture's file says of the size of its pixels; None where it says nothing usable.

    Usable is a size that is the same both ways to 1 %.

    Args:
        data: The whole file.
        likely: Not the resolutions of screens and printers.
        images: Which series of it was labelled, and whether a level.
        long_side: Pixels of what was labelled: those of a level are larger than the file says.
    """
    images = images or ImagesConfig()
    try:
        if data[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
            with tifffile.TiffFile(open_contents(data)) as file:
                full = TiffSource(file, data, images)
                found = scale_of(full.full, full.ome, likely=likely)
                larger = 1.0
                if long_side and (images.level or images.mpp is not None):
                    larger = max(full.full.imagelength, full.full.imagewidth) / long_side
            if found is None:
                return None
            return _square(found.x * larger, found.y * larger, found.source, found.z)
        if data[128:132] == b"DICM":
            return _of_dicom(data[:])
        with Image.open(open_contents(data)) as image:
            dots = _of_exif(image)
    except Exception:  # damaged metadata: as if it were not there
        return None
    if dots is None or (likely and is_of_screens(dots)):
        return None
    return _square(25_400 / dots[0], 25_400 / dots[1], "exif")


def _of_dicom(data: bytes) -> PixelSize | None:
    """Millimetres between the rows and columns of a slice, and between slices."""
    from pydicom import dcmread

    found = dcmread(io.BytesIO(data), stop_before_pixels=True)
    spacing = found.get("PixelSpacing") or found.get("ImagerPixelSpacing")
    if not spacing:
        return None
    between = found.get("SpacingBetweenSlices") or found.get("SliceThickness")
    y, x = (float(value) * 1e3 for value in spacing)
    return _square(x, y, "dicom", float(between) * 1e3 if between else None)


def _of_exif(image: Image.Image) -> tuple[float, float] | None:
    exif = image.getexif()
    if 282 in exif and 283 in exif:
        found = dots_an_inch((float(exif[282]), float(exif[283])), int(exif.get(296, _INCH)))
        if found is not None:
            return found
    dpi = image.info.get("dpi")
    return (float(dpi[0]), float(dpi[1])) if dpi else None


def _square(x: float, y: float, source: str, z_um: float | None = None) -> PixelSize | None:
    if not (0 < x < math.inf and 0 < y < math.inf) or abs(x - y) > _UNEVEN * max(x, y):
        return None
    return PixelSize(x, source, z_um if z_um is not None and 0 < z_um < math.inf else None)
