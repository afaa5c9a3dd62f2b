"""The section that makes copies: new pictures with their own labels, from chains of changes."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from .augment_steps import (
    AnyStep,
    Blur,
    Brightness,
    Contrast,
    Flip,
    Hue,
    Noise,
    ResizedCrop,
    Rotate,
    Saturation,
)
from .section import Section

SplitName = Literal["train", "val", "test"]

MAX_COPIES = 1000

DEFAULT_STEPS: tuple[AnyStep, ...] = (
    Flip(step="flip"),
    Rotate(step="rotate", angle=(-15.0, 15.0), p=0.5),
    ResizedCrop(step="resized_crop", area=(0.5, 1.0), p=0.5),
    Brightness(step="brightness", p=0.5),
    Contrast(step="contrast", p=0.5),
    Saturation(step="saturation", p=0.5),
    Hue(step="hue", p=0.3),
    Blur(step="blur", p=0.1),
    Noise(step="noise", p=0.2),
)
"""The chain where none is named: photographs stay upright, colours plausible."""


class AugmentConfig(Section):
    """Copies of each picture, changed at random but the same in every run."""

    copies: Annotated[int, Field(ge=0, le=MAX_COPIES, description="a picture; 0 = none")] = 0
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    splits: Annotated[
        tuple[SplitName, ...], Field(description="whose pictures get copies; see [split]")
    ] = ("train",)
    min_visible: Annotated[
        float, Field(ge=0, le=1, description="segments of which less is left are dropped")
    ] = 0.1
    format: Literal["png", "jpeg"] = "png"
    quality: Annotated[int, Field(ge=1, le=100, description="of JPEG")] = 95
    fill: Annotated[
        tuple[Annotated[int, Field(ge=0, le=255)], ...],
        Field(description="red, green, blue, or one number: what no pixel reaches"),
    ] = (0, 0, 0)
    steps: Annotated[tuple[AnyStep, ...], Field(description="in order; empty = the default")] = ()

    @field_validator("splits", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        """`"train"`, `"train,val"` or a list."""
        if isinstance(value, str):
            return tuple(item.strip() for item in value.split(","))
        return value

    @field_validator("fill", mode="before")
    @classmethod
    def _grey(cls, value: Any) -> Any:
        if isinstance(value, int):
            return (value, value, value)
        if isinstance(value, list | tuple) and len(value) != 3:
            raise ValueError("fill must be one number or [red, green, blue]")
        return value

    @model_validator(mode="after")
    def _splits(self) -> Self:
        if not self.splits:
            raise ValueError("splits must name one or several of train, val, test")
        return self

    def chain(self) -> tuple[AnyStep, ...]:
        """The steps that are done, in order."""
        return self.steps or DEFAULT_STEPS

    @property
    def fill_rgb(self) -> tuple[int, int, int]:
        """Red, green, blue of what no pixel reaches."""
        red, green, blue = self.fill
        return red, green, blue


# The section that deals pictures out to train, val and test.

Share = Annotated[float, Field(ge=0, le=1)]


class SplitConfig(Section):
    """Which pictures are for training, validation and testing; off until a share is given."""

    train: Annotated[
        Share | None, Field(description="share of the groups; unset = what val and test leave")
    ] = None
    val: Share = 0.0
    test: Share = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    group: Annotated[
        str,
        Field(
            description="regular expression with one group, searched in file_name: pictures that "
            "agree in it stay together; '' = each by its own bytes"
        ),
    ] = ""

    @field_validator("group")
    @classmethod
    def _one_group(cls, value: str) -> str:
        if value:
            try:
                groups = re.compile(value).groups
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
            if groups != 1:
                raise ValueError(f"must have one group ( ), has {groups}")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.val + self.test + (self.train or 0)
        exact = self.train is not None and total > 0
        if total > 1 + 1e-9 or (exact and total < 1 - 1e-9):
            raise ValueError(f"train, val and test must add up to 1, they add up to {total:g}")
        return self

    @property
    def active(self) -> bool:
        """Whether pictures are dealt out at all."""
        return self.val + self.test + (self.train or 0) > 0
