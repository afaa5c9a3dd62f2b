"""Masks painted inside rectangles, before it is decided which of them are segments."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .maps import Floats, Ints
from .rectangles import Rectangles


@dataclass(frozen=True, slots=True)
class Painted:
    """Masks of m queries of a picture.

    Attributes:
        rectangles: Where they lie in `pixels`.
        pixels: Flat uint8 on the device.
        areas: m, pixels inside.
        sums: m, of the probabilities inside.
    """

    rectangles: Rectangles
    pixels: Tensor
    areas: Ints
    sums: Floats
