"""Colours: valid, repeatable, and apart where categories are neighbours."""

from __future__ import annotations

import colorsys
import re

from schemas.categories import color_at


def hue(color: str) -> float:
    red, green, blue = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return colorsys.rgb_to_hsv(red, green, blue)[0]


def test_hundreds_of_categories_have_colours_of_their_own() -> None:
    colors = [color_at(number) for number in range(300)]
    assert colors == [color_at(number) for number in range(300)]
    assert all(re.fullmatch(r"#[0-9a-f]{6}", color) for color in colors)
    assert len(set(colors)) == 300


def test_neighbours_are_far_apart_on_the_circle() -> None:
    for number in range(300):
        apart = abs(hue(color_at(number)) - hue(color_at(number + 1)))
        assert min(apart, 1 - apart) > 0.3
