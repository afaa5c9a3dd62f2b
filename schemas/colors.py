"""Colours for categories that bring none."""

from __future__ import annotations

import colorsys

_GOLDEN = 0.618034
"""Steps of the golden ratio round the colour circle stay apart, however many there are."""


def color_at(number: int) -> str:
    """The colour of the n-th category, "#rrggbb": the same everywhere, unlike its neighbours'."""
    hue = number * _GOLDEN % 1
    value = (0.95, 0.75, 0.6)[number % 3]
    rgb = colorsys.hsv_to_rgb(hue, 0.85, value)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
