"""An evaluation's figures as plain data, in one order and with names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .categories import Table
from .metric import Figures


def by_category(figures: Mapping[str, Figures], table: Table) -> list[dict[str, Any]]:
    """A row a category: id, name, isthing, and under each metric's name what it says of it."""
    rows = []
    for id_ in sorted({id_ for item in figures.values() for id_ in item.per_category}):
        known = table.get(id_)
        rows.append(
            {
                "category_id": id_,
                "name": known.name if known else str(id_),
                "isthing": known.isthing if known else None,
                **{n: f.per_category[id_] for n, f in figures.items() if id_ in f.per_category},
            }
        )
    return rows


def worst_images(figures: Mapping[str, Figures]) -> list[dict[str, Any]]:
    """The rows of the first metric that has some, the worst image first."""
    return next((item.images for item in figures.values() if item.images), [])


def further_parts(figures: Mapping[str, Figures]) -> dict[str, Any]:
    """What metrics have to say beyond numbers: curves, confusion."""
    return {name: part for item in figures.values() for name, part in item.more.items() if part}
