"""Which categories a network learns, and which index is which."""

from __future__ import annotations

import colorsys
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.evaluation.categories import Table
from pipeline.models.category_tables import TABLES, category_table
from schemas.categories import Categories, Category
from schemas.suggest import nearest

_GOLDEN = 0.618034
"""Hues this share of the circle apart stay apart however many there are."""


def chosen_table(name: str) -> Categories:
    """The categories of a built-in table or of a JSON file.

    Args:
        name: One of `TABLES`, or the path of a JSON file: a list as `Categories.to_json` gives
            it, or an object that holds one under "categories".

    Raises:
        ValueError: Neither, or a bad entry.
    """
    if name in TABLES:
        return category_table(name).categories
    path = Path(name).expanduser()
    if not path.is_file():
        raise ValueError(
            f"categories: {name!r} is neither a table nor a JSON file{nearest(name, TABLES)}; "
            f"tables: {', '.join(TABLES)}"
        )
    try:
        data: Any = json.loads(path.read_text("utf-8"))
        return Categories.from_json(data["categories"] if isinstance(data, Mapping) else data)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"categories: {path}: {error}") from error


def joined_table(tables: Sequence[tuple[str, Table]]) -> Categories:
    """One table of those of several datasets, ascending by id.

    Args:
        tables: (where, id → category) of each.

    Raises:
        ValueError: An id or a name means different things in two of them, or an id is below 1.
    """
    found: dict[int, Category] = {}
    by_name: dict[str, int] = {}
    for where, table in tables:
        for id_, item in table.items():
            known = found.get(id_)
            if known is None and by_name.get(item.name, id_) == id_:
                color = item.color or ("#000000" if item.is_background else palette(id_))
                found[id_] = Category(
                    id_, item.name, item.isthing, color, is_background=item.is_background
                )
                by_name[item.name] = id_
            elif known is None or known.name != item.name:
                raise ValueError(
                    f"{where}: category {id_} {item.name!r} stands under another id or name in "
                    "another dataset"
                )
    return Categories(tuple(found[id_] for id_ in sorted(found)))


def numbered_table(ids: Iterable[int]) -> Categories:
    """A table for ids that nothing names.

    Raises:
        ValueError: An id is below 1.
    """
    ids = sorted(ids)
    if ids and ids[0] < 1:
        raise ValueError(
            f"the maps hold the category id {ids[0]}; ids begin at 1: set pixel_offset or void"
        )
    return Categories(tuple(Category(id_, f"category {id_}", False, palette(id_)) for id_ in ids))


def with_background(categories: Categories) -> Categories:
    """The table with an entry for the rest of the picture, where it has none."""
    if any(item.is_background for item in categories):
        return categories
    id_ = max((item.id for item in categories), default=0) + 1
    names = {item.name for item in categories}
    name = "background" if "background" not in names else "rest of the picture"
    rest = Category(id_, name, isthing=False, color="#000000", is_background=True)
    return Categories((*categories, rest))


def palette(number: int) -> str:
    """A colour that is the same for the same number on every machine."""
    rgb = colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.85, (0.95, 0.75, 0.6)[number % 3])
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
