"""Which categories a network learns, and which index is which."""

from __future__ import annotations

import colorsys
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.sources.categories import Table
from pipeline.models.checkpoints.category_tables import TABLES, category_table
from schemas.categories import Categories, Category
from schemas.config.training import Balance
from schemas.suggest import nearest

from .examples import IndexMap

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


# How often categories occur, and what each weighs in the loss.

MOST = 1000
"""Pictures looked at; of more, so many spread evenly."""


def count_pixels(
    maps: Iterable[IndexMap], categories: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pixels of each category, and learnable pixels of all pictures in which it occurs.

    Args:
        maps: HxW indices, negative = ignored.
        categories: How many there are.
    """
    pixels = np.zeros(categories, np.int64)
    around = np.zeros(categories, np.int64)
    for label_map in maps:
        counts = np.bincount(label_map[label_map >= 0].ravel(), minlength=categories)
        pixels += counts
        around += np.where(counts > 0, counts.sum(), 0)
    return pixels, around


def weights_of(
    balance: Balance | Mapping[str, float],
    categories: Categories,
    pixels: npt.NDArray[np.int64],
    around: npt.NDArray[np.int64],
    *,
    most: float,
) -> tuple[float, ...]:
    """Weight of each category in the loss.

    "inverse-frequency": 1 / (n f), f the share of pixels, n the categories that occur: the mean
    over pixels is 1. "median-frequency": median(f) / f, f the share in pictures that show the
    category (Eigen and Fergus, ICCV 2015). A category that does not occur weighs 1. Weights of
    frequencies are held to 1 / `most`…`most`.

    Args:
        balance: Which rule; or name → weight, 1 for names that are not there.
        categories: In the order of the indices.
        pixels: Of `count_pixels`.
        around: Of `count_pixels`.
        most: See above.

    Raises:
        ValueError: A name that is no category's.
    """
    names = [item.name for item in categories]
    if not isinstance(balance, str):
        for name in balance:
            if name not in names:
                raise ValueError(
                    f"category_weights: no category is called {name!r}{nearest(name, names)}; "
                    f"known: {', '.join(names)}"
                )
        return tuple(float(balance.get(name, 1.0)) for name in names)
    occurs = pixels > 0
    weights = np.ones(len(names))
    if balance != "none" and occurs.any():
        if balance == "median-frequency":
            share = pixels[occurs] / around[occurs]
            found = np.median(share) / share
        else:
            found = pixels.sum() / (occurs.sum() * pixels[occurs])
        weights[occurs] = np.clip(found, 1 / most, most)
    return tuple(round(float(weight), 6) for weight in weights)
