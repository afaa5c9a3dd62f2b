"""FitRule: how a picture is brought into a model's input. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

# Frame: where a picture lies in a model's input, and which cells of the output each pixel sees.


@dataclass(frozen=True, slots=True)
class Axis:
    """Linear interpolation along one side: pixel i = (1 − weight[i])·low[i] + weight[i]·high[i].

    Attributes:
        low: n int32, a cell of the grid.
        high: n int32, the same or the next cell.
        weight: n float32 in 0…1, of `high`.
    """

    low: npt.NDArray[np.int32]
    high: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture inside a model's input.

    Pixel and cell centres are at halves (0.5, 1.5, …), as in PyTorch's `interpolate` with
    `align_corners=False`, OpenCV's and Pillow's `resize`.

    Attributes:
        picture_hw: Of the original picture, in whose pixels masks are wanted.
        content_hw: Of the resized picture inside the input, pixels.
        input_hw: Of the whole input, padding included, pixels.
        offset_yx: Of the resized picture's top left corner in the input, pixels.
    """

    picture_hw: tuple[int, int]
    content_hw: tuple[int, int]
    input_hw: tuple[int, int]
    offset_yx: tuple[int, int] = (0, 0)

    def axes(self, grid_hw: tuple[int, int]) -> tuple[Axis, Axis]:
        """How each row and each column of the picture is read from an output grid.

        Without padding this is `interpolate(grid, picture_hw, mode="bilinear")`. With padding,
        pixels at the picture's rim are held inside its own cells: no value is mixed from cells
        that saw nothing but padding.

        Args:
            grid_hw: Cells of the output that cover the whole input.
        """
        found: list[Axis] = []
        for pixels, content, whole, start, cells in zip(
            self.picture_hw, self.content_hw, self.input_hw, self.offset_yx, grid_hw, strict=True
        ):
            ratio = cells / whole  # cells a pixel of the input
            at = ((np.arange(pixels) + 0.5) * (content / pixels) + start) * ratio - 0.5
            first, last = start * ratio, (start + content) * ratio - 1
            at = np.clip(at, min(first, cells - 1), max(last, first, 0))
            low = np.floor(at).astype(np.int32)
            high = np.minimum(low + 1, cells - 1).astype(np.int32)
            found.append(Axis(low, high, (at - low).astype(np.float32)))
        return found[0], found[1]


Hw = tuple[int, int]
Filter = Literal["nearest-exact", "lanczos", "bilinear", "bicubic"]

_LARGEST = 1 << 16
"""Pixels of an input's side at most; a file that says more is damaged."""

MAX_ASPECT = 8
"""A rule that fixes the shortest edge alone would make a 1×5000 strip 256 × 1,280,000 pixels; its
longest edge is held to this many times the shortest."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a picture is made.

    Attributes:
        kind: "keep": as it is. "stretch": to `height` × `width`, whatever its shape. "shortest":
            the shorter side to `height`, unless the longer would pass `width` (0 = no limit).
            "within": as large as fits into `height` × `width`. "nearest": to the side of
            `height` × `width` that changes it least (DPT). "floor": as "shortest", but both sides
            are rounded down (torchvision's R-CNN). All but "stretch" keep the shape.
        height: Pixels.
        width: Pixels.
        divisor: Sides are brought to a multiple of it, without padding: up, but for "nearest".
    """

    kind: Literal["keep", "stretch", "shortest", "within", "nearest", "floor"] = "keep"
    height: int = 0
    width: int = 0
    divisor: int = 1

    def of(self, picture_hw: Hw, *, scale: float = 1.0) -> Hw:
        """Size of the resized picture, at least 1 × 1.

        Args:
            picture_hw: Of the picture.
            scale: Of test-time augmentation: all targets are multiplied by it.
        """
        height, width = (_scaled(side, scale) for side in (self.height, self.width))
        match self.kind:
            case "keep":
                hw = tuple(max(round(side * scale), 1) for side in picture_hw)
            case "stretch":
                hw = (height, width)
            case "shortest":
                hw = _shortest(picture_hw, height, width)
            case "floor":
                ratio = min(height / min(picture_hw), width / max(picture_hw))
                hw = tuple(int(side * ratio) for side in picture_hw)
            case "within":
                ratio = min(height / picture_hw[0], width / picture_hw[1])
                hw = tuple(int(side * ratio + 0.5) for side in picture_hw)
            case "nearest":
                return _nearest(picture_hw, (height, width), self.divisor)
        return tuple(_up(max(side, 1), self.divisor) for side in hw)  # pyright: ignore


@dataclass(frozen=True, slots=True)
class Padding:
    """What is put around a resized picture; the right and the bottom get it unless centred.

    Attributes:
        to_hw: The whole input, at least; (0, 0) = no such wish.
        divisor: The input's sides are multiples of it.
        centred: Half of it goes to the top and to the left.
        raw: Black pixels, that is before normalising; else zeros after it.
    """

    to_hw: Hw = (0, 0)
    divisor: int = 1
    centred: bool = False
    raw: bool = False


@dataclass(frozen=True, slots=True)
class FitRule:
    """Everything between a picture's pixels and a model's input.

    Attributes:
        size: How large the picture is made.
        resample: The filter, as torchvision names it.
        antialias: Whether a smaller picture is averaged, as Pillow does.
        exact: Resized values are kept as floats, not rounded to 8 bits as a picture's are.
        rescale: Factor on the 8-bit values, 1 = none.
        mean: Of each channel, after `rescale`; None = nothing is subtracted or divided.
        std: Of each channel.
        bgr: The network wants blue first.
        blurred: The picture is rescaled, filled up to a square below or beside it, blurred as
            scikit-image does it before it makes a picture smaller, and resized without antialias:
            OWLv2's own way. `size` and `padding` say where it comes to lie.
        channels: Of the input: 3, 2 = the picture's first two, 1 = grey.
        padding: What is put around.

    Raises:
        ValueError: A size, a factor, a mean or a deviation that no picture can go in by.
    """

    size: Size = Size()
    resample: Filter = "bilinear"
    antialias: bool = True
    exact: bool = False
    rescale: float = 1 / 255
    mean: tuple[float, ...] | None = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    bgr: bool = False
    blurred: bool = False
    channels: int = 3
    padding: Padding = Padding()

    def __post_init__(self) -> None:
        sides = (self.size.height, self.size.width, *self.padding.to_hw)
        if not all(0 <= side <= _LARGEST for side in sides):
            raise ValueError(f"pictures cannot be made {sides[0]} × {sides[1]} pixels large")
        if not (isinstance(self.rescale, int | float) and 0 < self.rescale < math.inf):
            raise ValueError(f"rescale_factor must be a number above 0, got {self.rescale!r}")
        if self.mean is None:
            return
        for name, values, least in (("mean", self.mean, -math.inf), ("std", self.std, 0.0)):
            if len(values) not in (self.channels, 3) or not all(
                isinstance(each, int | float) and least < each < math.inf for each in values
            ):
                above = " above 0" if not least else ""
                raise ValueError(
                    f"image_{name} must be a number{above} a channel, got {list(values)}"
                )

    def frame(
        self, picture_hw: Hw, *, scale: float = 1.0, flip_yx: tuple[bool, bool] = (False, False)
    ) -> Frame:
        """Where the picture lies in the input. Depends on nothing but the arguments.

        Args:
            picture_hw: Of the original picture, in whose pixels masks are wanted.
            scale: Of the input; 1 = as the checkpoint wants it.
            flip_yx: The picture is turned upside down, or its left and right are exchanged. The
                frame is that of the model's output *after it was flipped back*.
        """
        content = self.size.of(picture_hw, scale=scale)
        pad = self.padding
        whole = tuple(
            _up(max(side, _scaled(least, scale)), pad.divisor)
            for side, least in zip(content, pad.to_hw, strict=True)
        )
        spare = [outer - inner for outer, inner in zip(whole, content, strict=True)]
        before = [space // 2 if pad.centred else 0 for space in spare]
        offset = [
            space - first if flipped else first
            for space, first, flipped in zip(spare, before, flip_yx, strict=True)
        ]
        return Frame(
            picture_hw=picture_hw,
            content_hw=content,
            input_hw=(whole[0], whole[1]),
            offset_yx=(offset[0], offset[1]),
        )


def _scaled(side: int, scale: float) -> int:
    """A side under test-time augmentation; a multiple of 32 stays one, as patches want it."""
    if scale == 1 or not side:
        return side
    step = 32 if side % 32 == 0 else 1
    return max(int(side * scale / step + 0.5), 1) * step


def _up(side: int, divisor: int) -> int:
    return -(-side // divisor) * divisor


def _shortest(picture_hw: Hw, shortest: int, longest: int) -> Hw:
    """As DETR's resize does it, with its rounding: the exact short side makes the long one."""
    short, long = sorted(picture_hw)
    limit = longest or MAX_ASPECT * shortest
    exact: float = shortest
    if long / short * shortest > limit:
        exact = limit * short / long
        shortest = round(exact)
    if short == shortest:
        return picture_hw
    other = int(exact * long / short)
    return (shortest, other) if picture_hw[0] <= picture_hw[1] else (other, shortest)


def _nearest(picture_hw: Hw, target_hw: Hw, divisor: int) -> Hw:
    """DPT's rule: both sides by the ratio that is nearer to 1, each to the nearest multiple."""
    ratios = [target / side for target, side in zip(target_hw, picture_hw, strict=True)]
    ratio = ratios[1] if abs(1 - ratios[1]) < abs(1 - ratios[0]) else ratios[0]
    ratio = min(ratio, MAX_ASPECT * max(target_hw) / max(picture_hw))
    sides = [max(round(ratio * side / divisor), 1) * divisor for side in picture_hw]
    return sides[0], sides[1]
