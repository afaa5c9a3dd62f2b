"""The steps of `[augment]`: what may happen to a copy, each with its own probability."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from .section import Section


def _pair(value: Any) -> Any:
    """One number as a range that holds only it."""
    return (value, value) if isinstance(value, int | float) else value


Range = Annotated[
    tuple[float, float],
    BeforeValidator(_pair),
    Field(description="[least, greatest], or one number"),
]
Whole = Annotated[
    tuple[int, int], BeforeValidator(_pair), Field(description="[least, greatest], or one number")
]


class AugmentStep(Section):
    """Base of every step."""

    p: Annotated[float, Field(ge=0, le=1, description="how often it happens, 0…1")] = 1.0

    def _within(self, name: str, low: float, high: float) -> None:
        """Refuses a range that is upside down or leaves low…high.

        Raises:
            ValueError: Names the key and what is allowed.
        """
        first, last = getattr(self, name)
        if not low <= first <= last <= high:
            raise ValueError(
                f"{name} must be [least, greatest] within {low:g}…{high:g}, got [{first}, {last}]"
            )


class Flip(AugmentStep):
    """Mirrors left to right, top to bottom, or both."""

    step: Literal["flip"]
    horizontal: Annotated[float, Field(ge=0, le=1, description="probability")] = 0.5
    vertical: Annotated[float, Field(ge=0, le=1, description="probability")] = 0.0


class Rotate(AugmentStep):
    """Turns about the middle."""

    step: Literal["rotate"]
    angle: Annotated[Range, Field(description="degrees, counter-clockwise")] = (-180.0, 180.0)
    quarters: Annotated[bool, Field(description="only multiples of 90 degrees: exact")] = False
    expand: Annotated[bool, Field(description="enlarge the frame so that nothing is cut")] = False

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._within("angle", -360, 360)
        return self


class Crop(AugmentStep):
    """Cuts out a rectangle at a random place; the copy becomes smaller."""

    step: Literal["crop"]
    scale: Annotated[Range, Field(description="of either side, 0…1")] = (0.5, 1.0)
    size: Annotated[
        tuple[int, int] | None,
        Field(description="[height, width] in pixels, instead of scale"),
    ] = None

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._within("scale", 0.01, 1)
        _check_size(self.size)
        return self


class ResizedCrop(AugmentStep):
    """Cuts out a rectangle at a random place and resizes it."""

    step: Literal["resized_crop"]
    area: Annotated[Range, Field(description="share of the picture's area, 0…1")] = (0.25, 1.0)
    aspect: Annotated[Range, Field(description="change of width / height")] = (0.75, 1.3333)
    size: Annotated[
        tuple[int, int] | None, Field(description="[height, width]; unset = as the picture was")
    ] = None

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._within("area", 0.001, 1)
        self._within("aspect", 0.1, 10)
        _check_size(self.size)
        return self


class ObjectCrop(AugmentStep):
    """Cuts out a rectangle around one object; left out in a picture without objects."""

    step: Literal["object_crop"]
    context: Annotated[Range, Field(description="side of the rectangle / side of the object")] = (
        1.5,
        4.0,
    )
    least: Annotated[int, Field(ge=1, description="side of the rectangle, pixels")] = 32
    size: Annotated[
        tuple[int, int] | None, Field(description="[height, width]; unset = no resize")
    ] = None

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._within("context", 1, 100)
        _check_size(self.size)
        return self


class Scale(AugmentStep):
    """Zooms about the middle: above 1 enlarges."""

    step: Literal["scale"]
    factor: Range = (0.7, 1.4)
    stretch: Annotated[Range, Field(description="width against height")] = (1.0, 1.0)
    expand: Annotated[bool, Field(description="resize the frame too; else it stays")] = False

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._within("factor", 0.05, 20)
        self._within("stretch", 0.2, 5)
        return self


class Shear(AugmentStep):
    """Slants about the middle."""

    step: Literal["shear"]
    x: Annotated[Range, Field(description="degrees, rows against each other")] = (-10.0, 10.0)
    y: Annotated[Range, Field(description="degrees, columns against each other")] = (0.0, 0.0)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._within("x", -40, 40)
        self._within("y", -40, 40)
        return self


class Elastic(AugmentStep):
    """Bends: random displacements on a coarse grid, smooth between (Ronneberger 2015, U-Net)."""

    step: Literal["elastic"]
    magnitude: Annotated[
        Range,
        Field(description="standard deviation, as a share of the shorter side; U-Net: 10 of 512"),
    ] = (0.02, 0.02)
    grid: Annotated[int, Field(ge=2, le=32, description="control points a side")] = 3

    @model_validator(mode="after")
    def _checked(self) -> Self:
        # Neighbours that come closer than their distance fold the picture over.
        self._within("magnitude", 0, round(0.2 / self.grid, 4))
        return self


class Perspective(AugmentStep):
    """Moves the four corners: a plane seen aslant."""

    step: Literal["perspective"]
    magnitude: Annotated[Range, Field(description="of the corners, share of either side")] = (
        0.0,
        0.15,
    )

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._within("magnitude", 0, 0.4)
        return self


class _Factor(AugmentStep):
    factor: Range = (0.8, 1.2)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._within("factor", 0, 10)
        return self


class Brightness(_Factor):
    """Multiplies every value."""

    step: Literal["brightness"]


class Contrast(_Factor):
    """Spreads values away from the picture's mean grey, or towards it."""

    step: Literal["contrast"]


class Saturation(_Factor):
    """Spreads colours away from grey, or towards it."""

    step: Literal["saturation"]


class Hue(AugmentStep):
    """Turns the colours about the grey axis."""

    step: Literal["hue"]
    angle: Annotated[Range, Field(description="degrees")] = (-10.0, 10.0)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._within("angle", -180, 180)
        return self


class GammaChange(AugmentStep):
    """255 · (value / 255) ^ gamma: below 1 brightens."""

    step: Literal["gamma"]
    gamma: Range = (0.7, 1.4)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._within("gamma", 0.05, 20)
        return self


class Noise(AugmentStep):
    """Adds Gaussian noise, each channel its own."""

    step: Literal["noise"]
    sigma: Annotated[Range, Field(description="standard deviation, values of 0…255")] = (2.0, 12.0)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._within("sigma", 0, 255)
        return self


class Blur(AugmentStep):
    """Gaussian blur."""

    step: Literal["blur"]
    sigma: Annotated[Range, Field(description="pixels")] = (0.3, 1.5)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._within("sigma", 0, 100)
        return self


class Jpeg(AugmentStep):
    """Compresses as JPEG and decodes again."""

    step: Literal["jpeg"]
    quality: Whole = (40, 90)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._within("quality", 1, 100)
        return self


class Cutout(AugmentStep):
    """Paints rectangles over the picture (DeVries and Taylor 2017)."""

    step: Literal["cutout"]
    count: Whole = (1, 3)
    size: Annotated[Range, Field(description="of a rectangle, share of either side")] = (0.1, 0.25)
    labels: Annotated[
        Literal["keep", "erase"], Field(description="whether segments reach under the rectangles")
    ] = "keep"

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._within("count", 0, 100)
        self._within("size", 0.001, 1)
        return self


class CopyPaste(AugmentStep):
    """Pastes segments of another picture of the same shard (Ghiasi 2021)."""

    step: Literal["copy_paste"]
    count: Annotated[Whole, Field(description="segments, at most")] = (1, 5)
    categories: Annotated[
        tuple[str, ...], Field(description="names of those that are pasted; empty = all things")
    ] = ()
    scale: Annotated[Range, Field(description="how much larger they are pasted")] = (0.7, 1.4)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._within("count", 1, 1000)
        self._within("scale", 0.05, 20)
        return self


class Mosaic(AugmentStep):
    """Puts the picture and three others of the same shard into the quarters of one frame."""

    step: Literal["mosaic"]
    center: Annotated[Range, Field(description="where they meet, share of either side")] = (
        0.35,
        0.65,
    )

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._within("center", 0.1, 0.9)
        return self


AnyStep = Annotated[
    Flip
    | Rotate
    | Crop
    | ResizedCrop
    | ObjectCrop
    | Scale
    | Shear
    | Elastic
    | Perspective
    | Brightness
    | Contrast
    | Saturation
    | Hue
    | GammaChange
    | Noise
    | Blur
    | Jpeg
    | Cutout
    | CopyPaste
    | Mosaic,
    Field(discriminator="step"),
]

MIXING = ("copy_paste", "mosaic")
"""Steps that need other pictures."""


def _check_size(size: tuple[int, int] | None) -> None:
    if size is not None and not (min(size) >= 1 and max(size) <= 32_000):
        raise ValueError(f"size must be [height, width] within 1…32000, got {list(size)}")
