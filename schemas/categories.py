"""Categories: what a segment can be."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MAX_ID = 2**31 - 1
_COLOR = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True, slots=True)
class Category:
    """One category.

    Attributes:
        id: ≥ 1. COCO's own ids (1…200 with gaps) are kept, never renumbered.
        name: Unique in a table, not empty.
        isthing: True for countable objects, False for stuff.
        color: "#rrggbb", lower case.
        supercategory: COCO's grouping, may be "".
        is_background: The remainder of the picture. A picture with nothing but background is
            `empty`. Always stuff.
    """

    id: int
    name: str
    isthing: bool
    color: str
    supercategory: str = ""
    is_background: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.id, int) or not 1 <= self.id <= _MAX_ID:
            raise ValueError(
                f"category {self.name!r}: id must be an integer ≥ 1 (32 bits), got {self.id!r}"
            )
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"category {self.id}: name must be text and not empty")
        for key in ("isthing", "is_background"):
            if not isinstance(getattr(self, key), bool):
                raise ValueError(f"category {self.name!r}: {key} must be true or false")
        if not isinstance(self.color, str) or not _COLOR.fullmatch(self.color):
            raise ValueError(f"category {self.name!r}: color must be '#rrggbb', got {self.color!r}")
        if self.is_background and self.isthing:
            raise ValueError(f"category {self.name!r}: background cannot be a thing")

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The colour as (red, green, blue), 0…255."""
        value = int(self.color[1:], 16)
        return value >> 16, value >> 8 & 255, value & 255

    def to_coco(self) -> dict[str, Any]:
        """The entry of a COCO `categories` list, panoptic keys included."""
        return {
            "id": self.id,
            "name": self.name,
            "supercategory": self.supercategory,
            "isthing": int(self.isthing),
            "color": list(self.rgb),
        }


@dataclass(frozen=True, slots=True)
class Categories:
    """An ordered table of categories with unique ids and names.

    Raises:
        ValueError: Two categories share an id or a name.
    """

    items: tuple[Category, ...]

    def __post_init__(self) -> None:
        for key in ("id", "name"):
            seen: set[Any] = set()
            for item in self.items:
                value = getattr(item, key)
                if value in seen:
                    raise ValueError(f"two categories have the {key} {value!r}")
                seen.add(value)

    def __iter__(self) -> Iterator[Category]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def by_id(self) -> dict[int, Category]:
        """id → Category."""
        return {item.id: item for item in self.items}

    def by_name(self) -> dict[str, Category]:
        """name → Category."""
        return {item.name: item for item in self.items}

    def to_json(self) -> list[dict[str, Any]]:
        """Plain data for a manifest or a model's config.json."""
        return [
            {
                "id": item.id,
                "name": item.name,
                "isthing": item.isthing,
                "color": item.color,
                "supercategory": item.supercategory,
                "is_background": item.is_background,
            }
            for item in self.items
        ]

    @classmethod
    def from_json(cls, rows: Sequence[Mapping[str, Any]]) -> Categories:
        """The inverse of `to_json`.

        Raises:
            ValueError: A row lacks a key or holds a bad value.
        """
        try:
            return cls(tuple(Category(**row) for row in rows))
        except TypeError as error:
            raise ValueError(f"bad category entry: {error}") from error


# Colours for categories that bring none.

_GOLDEN = 0.618034
"""Steps of the golden ratio round the colour circle stay apart, however many there are."""


def color_at(number: int) -> str:
    """The colour of the n-th category, "#rrggbb": the same everywhere, unlike its neighbours'."""
    hue = number * _GOLDEN % 1
    value = (0.95, 0.75, 0.6)[number % 3]
    rgb = colorsys.hsv_to_rgb(hue, 0.85, value)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
