"""How large the pixels of a TIFF are, as its program, its map or its tags say."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from schemas.lengths import micrometres_in

_SCREEN_AND_PRINT = {
    1, 50, 60, 70, 72, 75, 90, 92, 96, 100, 110, 118, 120, 144, 150, 180, 200, 220, 240, 250, 266,
    300, 350, 360, 400, 480, 500, 600, 700, 720, 800, 900, 1000, 1200, 1440, 2400, 4800,
}  # fmt: skip
"""Dots an inch that programs write when nobody knows: they say nothing about the scene."""
_INCH, _CENTIMETRE = 2, 3


@dataclass(frozen=True, slots=True)
class Scale:
    """The sides of a pixel, micrometres.

    Attributes:
        x: Across.
        y: Down.
        source: "ome", "imagej", "geotiff" or "tiff".
        z: From one plane of a stack to the next, None where unknown.
    """

    x: float
    y: float
    source: str
    z: float | None = None


def scale_of(page: Any, ome: ElementTree.Element | None, *, likely: bool) -> Scale | None:
    """What is said of a page at full size, None where nothing is.

    Args:
        page: A `tifffile.TiffPage`; of a slide's label or overview only its own tags count.
        ome: Of its image, see `ome_image`.
        likely: Not the resolutions of screens and printers.
    """
    found = _of_ome(ome) or _of_imagej(page) or _of_geotiff(page) or _of_aperio(page)
    if found is not None:
        return found
    unit = int(page.tags.valueof("ResolutionUnit", default=_INCH))
    dots = dots_an_inch(_resolution(page), unit)
    if dots is None or (likely and is_of_screens(dots)):
        return None
    return Scale(25_400 / dots[0], 25_400 / dots[1], "tiff")


def dots_an_inch(resolution: tuple[float, float] | None, unit: int) -> tuple[float, float] | None:
    """Dots an inch, across and down, of a resolution in the unit of a TIFF or EXIF tag (296)."""
    if resolution is None or unit not in (_INCH, _CENTIMETRE) or min(resolution) <= 0:
        return None
    factor = 2.54 if unit == _CENTIMETRE else 1.0
    return resolution[0] * factor, resolution[1] * factor


def is_of_screens(dots: tuple[float, float]) -> bool:
    """Whether dots an inch are what programs write for screens and printers, knowing nothing."""
    # 0.05: a whole number of dots an inch comes back from dots a metre or centimetre like this.
    return all(
        round(value) in _SCREEN_AND_PRINT and abs(value - round(value)) < 0.05 for value in dots
    )


def ome_image(file: Any, index: int) -> ElementTree.Element | None:
    """The `Image` of a file's OME-XML that has a page, None where there is none.

    Images are found by the pages that they name: those of other files of the set, or without
    pixels, are listed too, so their order says nothing.

    Args:
        file: The `tifffile.TiffFile`.
        index: Of the page.
    """
    if not file.is_ome or not file.ome_metadata:
        return None
    try:
        root = ElementTree.fromstring(file.ome_metadata)
    except ElementTree.ParseError:
        return None
    images = _children(root, "Image")
    if len(images) < 2:
        return images[0] if images else None
    here = (None, root.get("UUID"))
    for image in images:
        for data in (data for pixels in _children(image, "Pixels") for data in pixels):
            if not _is(data, "TiffData"):
                continue
            uuids = _children(data, "UUID")
            if (uuids[0].text if uuids else None) in here and index in _pages(data):
                return image
    return None


def channel_names(image: ElementTree.Element | None) -> tuple[str, ...]:
    """Names of the channels of an OME image, "" where one has none."""
    if image is None:
        return ()
    channels = (
        one for pixels in _children(image, "Pixels") for one in _children(pixels, "Channel")
    )
    return tuple(one.get("Name", "") for one in channels)


def _pages(data: ElementTree.Element) -> range:
    """Pages that a `TiffData` names: all from its first one where it says no number."""
    first = _whole(data.get("IFD"), 0)
    count = _whole(data.get("NumPlanes"), 1 if "IFD" in data.attrib else 1 << 31)
    return range(first, first + _whole(data.get("PlaneCount"), count))


def _whole(text: str | None, default: int) -> int:
    return int(text) if text and text.isdecimal() else default


def _is(element: ElementTree.Element, name: str) -> bool:
    return element.tag.rpartition("}")[2] == name


def _children(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [one for one in element if _is(one, name)]


def _of_ome(image: ElementTree.Element | None) -> Scale | None:
    pixels = _children(image, "Pixels") if image is not None else []
    if not pixels:
        return None
    sides: list[float | None] = []
    for axis in "XYZ":
        factor = micrometres_in(pixels[0].get(f"PhysicalSize{axis}Unit", "um"))
        sides.append(_length(pixels[0].get(f"PhysicalSize{axis}"), factor))
    x, y, z = sides
    return Scale(x, y, "ome", z) if x and y else None


def _of_imagej(page: Any) -> Scale | None:
    metadata = page.parent.imagej_metadata or {}
    factor = micrometres_in(str(metadata.get("unit", "")))
    resolution = _resolution(page)
    if factor is None or resolution is None:
        return None
    z = _length(metadata.get("spacing"), factor)
    return Scale(factor / resolution[0], factor / resolution[1], "imagej", z)


def _of_geotiff(page: Any) -> Scale | None:
    """The scale of a projected map whose unit is the metre."""
    found: dict[str, Any] = page.geotiff_tags or {}
    scale = found.get("ModelPixelScale")
    projected = int(found.get("GTModelTypeGeoKey", 0)) == 1
    if scale is None or not projected or int(found.get("ProjLinearUnitsGeoKey", 9001)) != 9001:
        return None
    x, y = (_length(side, 1e6) for side in scale[:2])
    return Scale(x, y, "geotiff") if x and y else None


def _of_aperio(page: Any) -> Scale | None:
    """The words of an Aperio slide; its thumbnail's are those of the slide, not its own."""
    if not page.parent.is_svs or page.index:
        return None
    found = re.search(r"\bMPP\s*=\s*([\d.]+)", page.description or "")
    side = _length(found[1], 1.0) if found else None
    return Scale(side, side, "tiff") if side else None


def _length(text: object, factor: float | None) -> float | None:
    """Micrometres; None for what is no length."""
    try:
        found = float(str(text)) * (factor or 0.0)
    except ValueError:
        return None
    return found if 0 < found < math.inf else None


def _resolution(page: Any) -> tuple[float, float] | None:
    """Pixels a unit, across and down; both above 0."""
    values = [page.tags.valueof(name) for name in ("XResolution", "YResolution")]
    if not all(isinstance(value, tuple) and len(value) == 2 and all(value) for value in values):
        return None
    x, y = (above / below for above, below in values)
    return (x, y) if x > 0 and y > 0 else None
