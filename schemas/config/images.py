"""How bytes become pixels: limits, depth, and which plane of a file with several is read."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from .section import Section

_OLD_LIMIT = 500_000_000
_NEW = ("page", "projection", "channels", "series", "time", "each", "level", "mpp")
"""Keys that came later: at their defaults they change no label, so they change no key of one."""


class ImagesConfig(Section):
    """How bytes become pixels."""

    max_pixels: Annotated[
        int | None,
        Field(
            ge=1,
            description="larger images fail as too_large; unset = what the worker's memory holds",
        ),
    ] = None
    stretch_16bit: Annotated[
        Literal["percentile", "full"],
        Field(description="16-bit → 8-bit: the 0.1…99.9 percentiles of the picture, or 0…65535"),
    ] = "percentile"
    page: Annotated[
        Annotated[int, Field(ge=1)] | Literal["first"] | None,
        Field(description="plane of a z-stack, page or frame, from 1; unset = the first, noted"),
    ] = None
    projection: Annotated[
        Literal["none", "max", "mean", "sharpest"],
        Field(description="makes one plane of a z-stack's planes, or of a file's pages"),
    ] = "none"
    channels: Annotated[
        tuple[Annotated[int, Field(ge=1)] | str, ...],
        Field(description="three for red, green, blue, or one; by number from 1 or OME's name"),
    ] = ()
    series: Annotated[
        Annotated[int, Field(ge=1)] | str | None,
        Field(description="image series of an OME or similar TIFF, by number from 1 or name"),
    ] = None
    time: Annotated[Annotated[int, Field(ge=1)] | None, Field(description="time point, from 1")] = (
        None
    )
    each: Annotated[
        Literal["file", "page", "z", "time"],
        Field(description="what is an image: a file, or each of its pages, planes or time points"),
    ] = "file"
    level: Annotated[
        int, Field(ge=0, description="level of a pyramid such as a whole slide; 0 = full size")
    ] = 0
    mpp: Annotated[
        float | None,
        Field(gt=0, description="micrometres a pixel: takes the coarsest level that is no coarser"),
    ] = None

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if len(self.channels) not in (0, 1, 3):
            raise ValueError(f"channels: must name one or three, got {len(self.channels)}")
        if self.projection != "none" and self.page is not None:
            raise ValueError("page and projection exclude one another: name one of them")
        if self.each in ("page", "z") and (self.page is not None or self.projection != "none"):
            raise ValueError(f'each = "{self.each}" reads every one: leave page and projection out')
        if self.each == "time" and self.time is not None:
            raise ValueError('each = "time" reads every time point: leave time out')
        if self.level and self.mpp is not None:
            raise ValueError("level and mpp exclude one another: name one of them")
        return self

    def identity(self) -> dict[str, Any]:
        """What labels depend on; the same as before these keys came, where they are at rest.

        The limit that follows a worker's memory is no part of it: what it refuses is never kept.
        """
        data = self.model_dump(mode="json")
        rest = type(self).model_fields
        for key in _NEW:
            if getattr(self, key) == rest[key].default:
                del data[key]
        data["max_pixels"] = self.max_pixels or _OLD_LIMIT
        return data
