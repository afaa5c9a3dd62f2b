"""Tables of categories that models speak: COCO, ADE20K, Cityscapes, PASCAL VOC, CamVid. No torch.

The files under tables/ hold ids, names, thing or stuff, and colours; each says where its ids are
from. A table whose name ends in a smaller number holds the things of the whole one alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from schemas.categories import Categories
from schemas.suggest import nearest

_FOLDER = Path(__file__).parents[1] / "tables"
_THINGS_OF = {
    "coco-80": "coco-133",
    "ade20k-100": "ade20k-150",
    "cityscapes-8": "cityscapes-19",
    "voc-20": "voc-21",
}
TABLES = (
    "coco-133",
    "coco-80",
    "ade20k-150",
    "ade20k-100",
    "cityscapes-19",
    "cityscapes-8",
    "voc-21",
    "voc-20",
    "camvid-11",
)
"""Names that `model.categories` knows."""

NOTHING = frozenset(
    {"n/a", "na", "none", "void", "ignore", "ignored", "unlabeled", "unlabelled", "unknown", ""}
)
"""Names of outputs that are no category."""
BACKGROUND = frozenset({"background", "__background__", "bg", "_background_"})

_ENOUGH = 0.9
"""Share of names that must agree where a model has a table's length and order."""


@dataclass(frozen=True, slots=True)
class CategoryTable:
    """One table.

    Attributes:
        name: One of `TABLES`.
        note: Where the ids are from.
        categories: In the order of a model's outputs.
        ids: Every known spelling, as `plain_name` gives it → id.
    """

    name: str
    note: str
    categories: Categories
    ids: Mapping[str, int]


@cache
def category_table(name: str) -> CategoryTable:
    """A table by name.

    Raises:
        ValueError: No such table.
    """
    if name not in TABLES:
        raise ValueError(
            f"category table {name!r} is not known{nearest(name, TABLES)}; "
            f"known: {', '.join(TABLES)}"
        )
    path = _FOLDER / f"{_THINGS_OF.get(name, name)}.json"
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    rows = [row for row in data["categories"] if name not in _THINGS_OF or row["isthing"]]
    ids = {
        plain_name(spelling): row["id"]
        for row in rows
        for spelling in (row["name"], *row.pop("synonyms", ()))
    }
    return CategoryTable(name, data["note"], Categories.from_json(rows), ids)


def plain_name(name: str) -> str:
    """A name without case, underscores and the synonyms that ADE20K lists after commas."""
    words = name.lower().replace("_", " ").split(",")[0].split()
    return " ".join(words)


def find_table(names: Sequence[str]) -> tuple[CategoryTable, tuple[int, ...]] | None:
    """The table whose categories a model finds, and the id of each of its outputs (0 = none).

    It fits if the outputs' names are all of the table's, each once; or if there are as many of
    them, in the table's order, and nine of ten agree. Outputs that stand for nothing, and
    background in a table without one, count for nothing.

    Args:
        names: Of the model's outputs, in order.
    """
    for name in TABLES:
        table = category_table(name)
        ids = _whole(names, table) or _nearly(names, table)
        if ids:
            return table, ids
    return None


def means_nothing(name: str) -> bool:
    """Whether an output of this name is no category: "N/A", "void", …"""
    return name.strip().lower() in NOTHING


def means_background(name: str) -> bool:
    """Whether an output of this name is the rest of the picture."""
    return name.strip().lower() in BACKGROUND


def _whole(names: Sequence[str], table: CategoryTable) -> tuple[int, ...] | None:
    ids = tuple(_id(name, table) for name in names)
    used = [id_ for id_ in ids if id_]
    return ids if None not in ids and sorted(used) == sorted(table.categories.by_id()) else None  # type: ignore[return-value]


def _id(name: str, table: CategoryTable) -> int | None:
    """0 for what is no category; None for an unknown name."""
    found = table.ids.get(plain_name(name))
    if found is None and (means_nothing(name) or means_background(name)):
        return 0
    return found


def _nearly(names: Sequence[str], table: CategoryTable) -> tuple[int, ...] | None:
    wanted = tuple(item.id for item in table.categories)
    if len(names) != len(wanted):
        return None
    agreeing = sum(_id(name, table) == id_ for name, id_ in zip(names, wanted, strict=True))
    return wanted if agreeing >= _ENOUGH * len(wanted) else None
