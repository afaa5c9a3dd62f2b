"""MaskCrops: each mask's surroundings as a square input of an embedder, on its device.

A square is cut from the picture's own pixels around the middle of the mask's box and resized once,
the way torchvision does it with antialiasing, as the embedders' processors do. At the picture's rim
the square is moved inwards; where it is larger than the picture, the rest has the mean colour.

What lies outside the mask can be kept, made the mean colour ("grey"), or blurred. The mask is
resized likewise, so that its rim is blended and not cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from pipeline.masks.codec import mask_window
from pipeline.models.checkpoints.hf_preprocessor import EmbedderInput
from schemas.config.model import NamingConfig
from schemas.records import Sample, Segment

_BLUR = 1 / 16
"""Spread of the blur, in sides of the input."""


@dataclass(frozen=True, slots=True)
class Square:
    """Where a crop comes from and where it goes.

    Attributes:
        source_xyxy: Pixels of the picture that it shows, integers.
        place_xyxy: Pixels of the input that show them; the rest is beyond the picture.
    """

    source_xyxy: tuple[int, int, int, int]
    place_xyxy: tuple[int, int, int, int]


def square_around(
    bbox_xywh: Sequence[float], picture_hw: tuple[int, int], *, margin: float, side: int
) -> Square:
    """The square of a box.

    Args:
        bbox_xywh: Pixels of the picture.
        picture_hw: Of the picture.
        margin: On each side, in longer sides of the box.
        side: Of the input, pixels.
    """
    x, y, width, height = bbox_xywh
    wide = max(round(max(width, height) * (1 + 2 * margin)), 1)
    (left, right), (from_x, to_x) = _line(x + width / 2, wide, picture_hw[1], side)
    (top, bottom), (from_y, to_y) = _line(y + height / 2, wide, picture_hw[0], side)
    return Square((left, top, right, bottom), (from_x, from_y, to_x, to_y))


def _line(
    middle: float, wide: int, whole: int, side: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """One dimension: what is taken of 0…whole, and where it lies in 0…side."""
    if wide <= whole:
        start = min(max(floor(middle - wide / 2 + 0.5), 0), whole - wide)
        return (start, start + wide), (0, side)
    before = floor(wide / 2 - middle + 0.5)  # of the square, left of the picture
    before = min(max(before, 0), wide - whole)
    first = round(before * side / wide)
    last = max(round((before + whole) * side / wide), first + 1)
    return (0, whole), (min(first, side - 1), min(last, side))


class MaskCrops:
    """Cuts crops of masks.

    Args:
        rule: How the embedder wants its input.
        config: Views and margin.
        device: Where they are wanted.
    """

    def __init__(self, rule: EmbedderInput, config: NamingConfig, device: str) -> None:
        self._rule = rule
        self._config = config
        self._device = torch.device(device)
        self._mean = torch.tensor(rule.mean, device=device)[:, None, None] * 255
        self._std = torch.tensor(rule.std, device=device)[:, None, None] * 255
        self._at_hand: tuple[Sample, Tensor] | None = None

    def __call__(self, wanted: Sequence[tuple[Sample, Segment]]) -> Tensor:
        """The views of some masks.

        Args:
            wanted: M masks and their pictures; those of one picture one after the other, so that
                it is uploaded once.

        Returns:
            M×V×3×side×side float32, normalised, the views in the order of the config.
        """
        pairs = [self._cut(*each) for each in wanted]
        crops = torch.stack([crop for crop, _ in pairs]).float()
        views: dict[str, Tensor] = {"keep": crops}
        if set(self._config.views) != {"keep"}:
            inside = torch.stack([mask for _, mask in pairs])[:, None]
            if "grey" in self._config.views:
                views["grey"] = torch.lerp(self._mean.expand_as(crops), crops, inside)
            if "blur" in self._config.views:
                views["blur"] = torch.lerp(blurred(crops, self._rule.side * _BLUR), crops, inside)
        chosen = torch.stack([views[name] for name in self._config.views], 1)
        return chosen.sub_(self._mean).div_(self._std)

    def _cut(self, sample: Sample, segment: Segment) -> tuple[Tensor, Tensor]:
        """3×side×side uint8, and side×side float32: how much of each pixel is the mask's."""
        picture = self._picture(sample)
        pixels_hw = (picture.shape[1], picture.shape[2])
        down, across = (a / b for a, b in zip(pixels_hw, sample.original_hw, strict=True))
        x, y, width, height = segment.bbox_xywh
        box = (x * across, y * down, width * across, height * down)
        side = self._rule.side
        square = square_around(box, pixels_hw, margin=self._config.margin, side=side)
        left, top, right, bottom = square.source_xyxy
        crop = self._placed(
            F.resize(
                picture[:, top:bottom, left:right],
                _size(square),
                interpolation=InterpolationMode(self._rule.resample),
                antialias=True,
            ),
            square,
            self._mean.round().to(torch.uint8),
        )
        if set(self._config.views) == {"keep"}:
            return crop, crop.new_zeros((), dtype=torch.float32)
        whole_h, whole_w = sample.original_hw
        window = (
            int(left / across),
            int(top / down),
            min(max(round(right / across), int(left / across) + 1), whole_w),
            min(max(round(bottom / down), int(top / down) + 1), whole_h),
        )
        mask = mask_window(segment.counts, whole_h, whole_w, window)
        inside = torch.from_numpy(mask).to(self._device, torch.float32)[None]
        small = F.resize(
            inside, _size(square), interpolation=InterpolationMode.BILINEAR, antialias=True
        )
        return crop, self._placed(small, square, small.new_zeros(()))[0]

    def _placed(self, part: Tensor, square: Square, ground: Tensor) -> Tensor:
        """C×h×w in the square input."""
        side = self._rule.side
        if _size(square) == [side, side]:
            return part
        x0, y0, x1, y1 = square.place_xyxy
        whole = ground.expand(len(part), side, side).clone()
        whole[:, y0:y1, x0:x1] = part
        return whole

    def _picture(self, sample: Sample) -> Tensor:
        """3×H×W uint8 on the device."""
        if self._at_hand is None or self._at_hand[0] is not sample:
            pixels = torch.from_numpy(np.require(sample.pixels, requirements=["C", "W"]))
            self._at_hand = sample, pixels.to(self._device).permute(2, 0, 1)
        return self._at_hand[1]

    def forget(self) -> None:
        """Frees the picture that was at hand."""
        self._at_hand = None


def _size(square: Square) -> list[int]:
    x0, y0, x1, y1 = square.place_xyxy
    return [y1 - y0, x1 - x0]


def blurred(crops: Tensor, spread: float) -> Tensor:
    """A Gaussian blur with mirrored rims.

    Args:
        crops: …×C×h×w float32.
        spread: Standard deviation, pixels.
    """
    reach = min(round(3 * spread), crops.shape[-1] - 1, crops.shape[-2] - 1)
    place = torch.arange(-reach, reach + 1, device=crops.device, dtype=torch.float32)
    weight = torch.exp(-(place**2) / (2 * spread**2))
    weight = weight / weight.sum()
    flat = crops.reshape(-1, 1, *crops.shape[-2:])
    flat = functional.pad(flat, (reach, reach, reach, reach), mode="reflect")
    flat = functional.conv2d(flat, weight[None, None, None, :])  # two passes: it is separable
    return functional.conv2d(flat, weight[None, None, :, None]).reshape(crops.shape)
