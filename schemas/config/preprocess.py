"""The section that changes pictures for the model's eyes; labels stay in the original's pixels."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from .section import Section

Odd = Annotated[int, Field(ge=3, le=99)]
Percent = Annotated[float, Field(ge=0, le=100)]


class Bands(Section):
    """Picks the bands that become red, green and blue, or the one that becomes grey."""

    step: Literal["bands"]
    choose: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Field(description="three bands for red, green, blue, or one; the file's first is 1"),
    ]

    @field_validator("choose")
    @classmethod
    def _one_or_three(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(value) not in (1, 3):
            raise ValueError(f"must name one band or three, got {len(value)}")
        return value


class Window(Section):
    """Maps the file's own values linearly: low and below to 0, high and above to 255."""

    step: Literal["window"]
    low: float | None = None
    high: float | None = None
    center: Annotated[float | None, Field(description="instead of low and high")] = None
    width: Annotated[float | None, Field(gt=0)] = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ends, middle = (self.low, self.high), (self.center, self.width)
        whole = [pair for pair in (ends, middle) if None not in pair]
        if len(whole) != 1 or [*ends, *middle].count(None) != 2:
            raise ValueError("name either low and high, or center and width")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        return self

    def ends(self) -> tuple[float, float]:
        """The values that become 0 and 255."""
        if self.center is not None and self.width is not None:
            return self.center - self.width / 2, self.center + self.width / 2
        return float(self.low or 0), float(self.high or 0)


class Percentile(Section):
    """Maps two percentiles of the picture's values to 0 and 255."""

    step: Literal["percentile"]
    low: Percent = 1.0
    high: Percent = 99.0
    per_channel: Annotated[bool, Field(description="each channel by itself: colours shift")] = False

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        return self


class AutoContrast(Section):
    """Stretches each channel's least and greatest value to 0 and 255."""

    step: Literal["auto_contrast"]
    cutoff: Annotated[float, Field(ge=0, lt=50, description="percent of pixels, at each end")] = 0.0


class Gamma(Section):
    """255 · (value / 255) ^ gamma: below 1 brightens."""

    step: Literal["gamma"]
    gamma: Annotated[float, Field(ge=0.05, le=20)]


class Clahe(Section):
    """Contrast-limited adaptive histogram equalisation of the lightness (CIELAB)."""

    step: Literal["clahe"]
    clip: Annotated[float, Field(gt=0, le=100, description="limit of the contrast")] = 2.0
    tiles: Annotated[int, Field(ge=1, le=64, description="tiles a side")] = 8


class MatchHistogram(Section):
    """Gives each channel the distribution of a reference picture's."""

    step: Literal["match_histogram"]
    reference: Annotated[str, Field(min_length=1, description="a picture, local or s3://")]
    sha256: Annotated[
        str, Field(pattern=r"^([0-9a-f]{64})?$", description="of its bytes; '' = find it")
    ] = ""


class WhiteBalance(Section):
    """Takes a cast off: the channels' means (grey world) or bright ends (white patch) meet."""

    step: Literal["white_balance"]
    method: Literal["grey_world", "white_patch"] = "grey_world"


class Median(Section):
    """Median of a square: against salt and pepper."""

    step: Literal["median"]
    size: Annotated[Odd, Field(description="side of the square, odd")] = 3

    @field_validator("size")
    @classmethod
    def _odd(cls, value: int) -> int:
        return _odd(value)


class Gaussian(Section):
    """Gaussian blur: against noise finer than what is looked for."""

    step: Literal["gaussian"]
    sigma: Annotated[float, Field(gt=0, le=100, description="pixels")] = 1.0


class Bilateral(Section):
    """Blurs where colours are alike, keeps edges."""

    step: Literal["bilateral"]
    diameter: Annotated[int, Field(ge=1, le=25, description="of the neighbourhood, pixels")] = 7
    sigma_color: Annotated[float, Field(gt=0, description="difference that is still alike")] = 40.0
    sigma_space: Annotated[float, Field(gt=0, description="pixels")] = 5.0


class NonLocalMeans(Section):
    """Averages patches that look alike: the best against grain, and slow."""

    step: Literal["nlmeans"]
    strength: Annotated[float, Field(gt=0, description="of the lightness, about the noise")] = 8.0
    strength_color: Annotated[float, Field(gt=0)] = 8.0
    patch: Odd = 7
    search: Odd = 21

    @field_validator("patch", "search")
    @classmethod
    def _odd(cls, value: int) -> int:
        return _odd(value)


class Resize(Section):
    """Another size for the model; masks come back at the original's size."""

    step: Literal["resize"]
    mode: Annotated[
        Literal["stretch", "letterbox", "shortest"],
        Field(
            description="stretch: to size; letterbox: into size, sides kept, rest filled; "
            "shortest: the shorter side becomes size"
        ),
    ] = "shortest"
    size: Annotated[
        tuple[Annotated[int, Field(ge=8, le=32768)], ...],
        Field(description="pixels: a number, or [height, width]"),
    ]
    fill: Annotated[int, Field(ge=0, le=255, description="grey of letterbox's rest")] = 114

    @field_validator("size", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _sides(self) -> Self:
        most = 1 if self.mode == "shortest" else 2
        if not 1 <= len(self.size) <= most:
            wanted = "one number" if most == 1 else "one number or [height, width]"
            raise ValueError(f"{self.mode} wants {wanted} for size")
        return self

    def size_hw(self) -> tuple[int, int]:
        """Height and width; the same number twice where one was given."""
        return self.size[0], self.size[-1]


Step = Annotated[
    Bands
    | Window
    | Percentile
    | AutoContrast
    | Gamma
    | Clahe
    | MatchHistogram
    | WhiteBalance
    | Median
    | Gaussian
    | Bilateral
    | NonLocalMeans
    | Resize,
    Field(discriminator="step"),
]


class PreprocessConfig(Section):
    """What a picture goes through, step by step, before the model sees it."""

    steps: tuple[Step, ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        names = [item.step for item in self.steps]
        if names.count("resize") > 1:
            raise ValueError("steps: one resize is enough")
        if "bands" in names[1:]:
            raise ValueError("steps: bands must be the first step, and there once")
        return self

    def identity(self) -> dict[str, Any]:
        """What the labels depend on: a reference picture counts by its content."""
        data = self.model_dump(mode="json")
        for item in data["steps"]:
            if item.get("sha256"):
                del item["reference"]
        return data


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd")
    return value
