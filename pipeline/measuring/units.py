"""How large a pixel is: as the user says it, or as the picture's file does."""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

import tifffile
from PIL import Image

from pipeline.storage.file_bytes import Contents, open_contents
from schemas.config.images import ImagesConfig

_MICROMETRES = {
    "nm": 1e-3, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "km": 1e9, "in": 25_400.0,
}  # fmt: skip
_WORDS = {
    "µm": "um", "μm": "um", "micron": "um", "microns": "um", "micrometer": "um",
    "micrometre": "um", "\\u00b5m": "um", "nanometer": "nm", "millimeter": "mm",
    "centimeter": "cm", "meter": "m", "metre": "m", "inch": "in", "inches": "in",
}  # fmt: skip
_NUMBER = re.compile(r"([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(\D+)")
_SCREEN_AND_PRINT = {
    1, 50, 60, 70, 72, 75, 90, 92, 96, 100, 110, 118, 120, 144, 150, 180, 200, 220, 240, 250, 266,
    300, 350, 360, 400, 480, 500, 600, 700, 720, 800, 900, 1000, 1200, 1440, 2400, 4800,
}  # fmt: skip
"""Dots an inch that programs write when nobody knows: they say nothing about the scene."""

_UNEVEN = 0.01
_INCH, _CENTIMETRE = 2, 3


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
    unit = _unit(match[2]) if match else None
    um = float(match[1]) * unit if match and unit else 0.0
    if not 0 < um < math.inf:
        allowed = ", ".join(_MICROMETRES)
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
    larger = 1.0
    try:
        if data[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
            with tifffile.TiffFile(open_contents(data)) as file:
                if long_side and (images.level or images.mpp is not None):
                    larger = _full_side(file, images.series) / long_side
                found = (
                    _of_ome(file, images.series)
                    or _of_imagej(file)
                    or _of_geotiff(file)
                    or _of_aperio(file)
                )
                if found is not None:
                    return replace(found, um=found.um * larger)
                dots = _of_tags(_tags(file))
            source = "tiff"
        elif data[128:132] == b"DICM":
            return _of_dicom(data[:])
        else:
            with Image.open(open_contents(data)) as image:
                dots = _of_exif(image)
            source = "exif"
    except Exception:  # damaged metadata: as if it were not there
        return None
    if dots is None or (likely and _is_usual(dots)):
        return None
    return _square(25_400 / dots[0] * larger, 25_400 / dots[1] * larger, source)


def _full_side(file: tifffile.TiffFile, series: int | str | None) -> int:
    """The longer side of a series at full size, pixels."""
    names = [str(one.name) for one in file.series]
    place = names.index(series) if series in names else int(series or 1) - 1
    page: Any = file.series[place].levels[0].keyframe
    return max(page.imagelength, page.imagewidth)


def _of_aperio(file: tifffile.TiffFile) -> PixelSize | None:
    first: Any = file.pages[0]
    found = re.search(r"\bMPP\s*=\s*([\d.]+)", first.description or "")
    return _square(float(found[1]), float(found[1]), "tiff") if found and file.is_svs else None


def _of_ome(file: tifffile.TiffFile, series: int | str | None) -> PixelSize | None:
    if not file.is_ome or not file.ome_metadata:
        return None
    every = re.findall(r"<(?:\w+:)?Image\b.*?</(?:\w+:)?Image>", file.ome_metadata, re.DOTALL)
    place = int(series) - 1 if isinstance(series, int) else 0
    if isinstance(series, str):
        name = re.compile(rf'<(?:\w+:)?Image\b[^>]*\bName="{re.escape(series)}"')
        place = next((at for at, one in enumerate(every) if name.match(one)), 0)
    image = every[place] if place < len(every) else file.ome_metadata
    head = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", image)
    sides = []
    for axis in "XY":
        size = re.search(rf'\bPhysicalSize{axis}="([^"]+)"', head[0]) if head else None
        unit = re.search(rf'\bPhysicalSize{axis}Unit="([^"]+)"', head[0]) if head else None
        factor = _unit(unit[1]) if unit else 1.0
        if size is None or factor is None:
            return None
        sides.append(float(size[1]) * factor)
    depth = re.search(r'\bPhysicalSizeZ="([^"]+)"', head[0]) if head else None
    unit = re.search(r'\bPhysicalSizeZUnit="([^"]+)"', head[0]) if head else None
    factor = _unit(unit[1]) if unit else 1.0
    z_um = float(depth[1]) * factor if depth and factor else None
    return _square(sides[0], sides[1], "ome", z_um)


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


def _of_imagej(file: tifffile.TiffFile) -> PixelSize | None:
    factor = _unit(str((file.imagej_metadata or {}).get("unit", "")))
    resolution = _resolution(_tags(file))
    if factor is None or resolution is None:
        return None
    spacing = (file.imagej_metadata or {}).get("spacing")
    z_um = float(spacing) * factor if spacing else None
    return _square(factor / resolution[0], factor / resolution[1], "imagej", z_um)


def _of_geotiff(file: tifffile.TiffFile) -> PixelSize | None:
    """The scale of a projected map whose unit is the metre."""
    found: dict[str, Any] = file.geotiff_metadata or {}
    scale = found.get("ModelPixelScale")
    projected = int(found.get("GTModelTypeGeoKey", 0)) == 1
    if scale is None or not projected or int(found.get("ProjLinearUnitsGeoKey", 9001)) != 9001:
        return None
    return _square(scale[0] * 1e6, scale[1] * 1e6, "geotiff")


def _tags(file: tifffile.TiffFile) -> Any:
    page: Any = file.pages[0]
    return page.tags


def _of_tags(tags: Any) -> tuple[float, float] | None:
    """Dots an inch, across and down."""
    resolution = _resolution(tags)
    unit = int(tags.valueof("ResolutionUnit", default=_INCH))
    return _per_inch(resolution, unit)


def _resolution(tags: Any) -> tuple[float, float] | None:
    values = [tags.valueof(name) for name in ("XResolution", "YResolution")]
    if None in values:
        return None
    x, y = (value[0] / value[1] for value in values)
    return x, y


def _of_exif(image: Image.Image) -> tuple[float, float] | None:
    exif = image.getexif()
    if 282 in exif and 283 in exif:
        found = _per_inch((float(exif[282]), float(exif[283])), int(exif.get(296, _INCH)))
        if found is not None:
            return found
    dpi = image.info.get("dpi")
    return (float(dpi[0]), float(dpi[1])) if dpi else None


def _per_inch(resolution: tuple[float, float] | None, unit: int) -> tuple[float, float] | None:
    if resolution is None or unit not in (_INCH, _CENTIMETRE) or min(resolution) <= 0:
        return None
    factor = 2.54 if unit == _CENTIMETRE else 1.0
    return resolution[0] * factor, resolution[1] * factor


def _is_usual(dots: tuple[float, float]) -> bool:
    # 0.05: a whole number of dots an inch comes back from dots a metre or centimetre like this.
    return all(
        round(value) in _SCREEN_AND_PRINT and abs(value - round(value)) < 0.05 for value in dots
    )


def _square(x: float, y: float, source: str, z_um: float | None = None) -> PixelSize | None:
    if not (0 < x < math.inf and 0 < y < math.inf) or abs(x - y) > _UNEVEN * max(x, y):
        return None
    return PixelSize(x, source, z_um if z_um is not None and 0 < z_um < math.inf else None)


def _unit(word: str) -> float | None:
    """Micrometres in a unit, None if it is not known."""
    plain = word.strip().lower()
    return _MICROMETRES.get(_WORDS.get(plain, plain))
