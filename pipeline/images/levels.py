"""Which level of a pyramid is read: by its number, or by micrometres a pixel."""

from __future__ import annotations

import re
from typing import Any

from schemas.config.images import ImagesConfig
from schemas.records import ErrorCode

from .decoded import UndecodableError

_TOLERANCE = 1.02


def choose_level(series: Any, config: ImagesConfig) -> tuple[Any, tuple[str, ...]]:
    """The level of a tifffile series that the config asks for, and a note that says which.

    Raises:
        UndecodableError: There is no such level, or the file does not say how large its pixels
            are.
    """
    levels = list(series.levels)
    place = config.level if config.mpp is None else _by_size(levels, series, config.mpp)
    if place >= len(levels):
        count = "1 level" if len(levels) == 1 else f"{len(levels)} levels"
        raise UndecodableError(
            ErrorCode.UNSUPPORTED, f"images.level = {place}: the image has {count}"
        )
    return levels[place], (f"level {place} of {len(levels)}",) if place else ()


def _by_size(levels: list[Any], series: Any, wanted: float) -> int:
    finest = microns_a_pixel(series)
    if finest is None:
        raise UndecodableError(
            ErrorCode.UNSUPPORTED, "images.mpp: the file does not say how large its pixels are"
        )
    width = levels[0].keyframe.imagewidth
    sizes = [finest * width / level.keyframe.imagewidth for level in levels]
    fitting = [place for place, size in enumerate(sizes) if size <= wanted * _TOLERANCE]
    return max(fitting, default=0)


def microns_a_pixel(series: Any) -> float | None:
    """Micrometres a pixel of a series at full size, None where the file does not tell."""
    page = series.levels[0].keyframe
    aperio = re.search(r"\bMPP\s*=\s*([\d.]+)", page.description or "")
    if aperio:
        return float(aperio[1]) or None
    ome = page.parent.ome_metadata if page.parent.is_ome else None
    size = re.search(r'\bPhysicalSizeX="([\d.eE+-]+)"', ome or "")
    unit = re.search(r'\bPhysicalSizeXUnit="([^"]+)"', ome or "")
    if size:
        factor = {"µm": 1.0, "μm": 1.0, "nm": 1e-3, "mm": 1e3}.get(unit[1] if unit else "µm")
        return float(size[1]) * factor if factor else None
    value = page.tags.valueof("XResolution")
    scale = {2: 25_400.0, 3: 10_000.0}.get(int(page.tags.valueof("ResolutionUnit", default=2)))
    if not value or not value[0] or not value[1] or scale is None:
        return None
    return scale * value[1] / value[0]
