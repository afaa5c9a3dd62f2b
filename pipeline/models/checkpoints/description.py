"""CategoryMap: which category each output of a model is. No torch here."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.categories import Categories, Category, color_at
from schemas.records import TASKS, Task
from schemas.suggest import nearest

from .category_tables import (
    TABLES,
    CategoryTable,
    category_table,
    find_table,
    means_background,
    means_nothing,
    plain_name,
)


@dataclass(frozen=True, slots=True)
class CategoryMap:
    """What a model finds.

    Attributes:
        table: Name of the table, "" for a model's or a user's own.
        categories: What it finds, in the order of its outputs where it has no table.
        ids: The category id of each output, 0 = none.
    """

    table: str
    categories: Categories
    ids: tuple[int, ...]


def map_outputs(names: Sequence[str], *, isthing: Sequence[bool]) -> CategoryMap:
    """The table that the outputs' names fit, else a table of their own with ids 1, 2, …

    Args:
        names: Of the model's outputs.
        isthing: Of each, for a model that fits no table.

    Raises:
        ValueError: No output stands for anything.
    """
    found = find_table(names)
    if found:
        table, ids = found
        return CategoryMap(table.name, table.categories, ids)
    return _own(names, isthing)


def map_chosen(names: Sequence[str], chosen: str | Sequence[Any]) -> CategoryMap:
    """The table that a user chose.

    A built-in table takes outputs by name, or by order where the names are others and there are
    as many. A file's entries take the outputs they name by `index`; without, those of their name;
    without such names, all of them by order. Outputs that no entry takes are dropped.

    Args:
        names: Of the model's outputs.
        chosen: A built-in table's name, the path of a JSON file, or what such a file holds: a list
            of entries like `Categories.to_json`, each with an optional `index`.

    Raises:
        ValueError: No such table or file, a bad entry, or names that do not fit.
    """
    if not isinstance(chosen, str):
        return _user(names, chosen, where="categories")
    if chosen in TABLES:
        return _built_in(names, category_table(chosen))
    path = Path(os.path.expanduser(chosen))
    if not path.is_file():
        raise ValueError(
            f"model.categories: {chosen!r} is neither a table nor a JSON file"
            f"{nearest(chosen, TABLES)}; tables: {', '.join(TABLES)}"
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"model.categories: {path} is no JSON: {error}") from error
    rows = data.get("categories") if isinstance(data, dict) else data
    return _user(names, rows, where=f"model.categories: {path}")


def beside_weights(path: Path, given: Any) -> Any:
    """The table that a checkpoint's own file holds or names: entries, or a built-in table.

    Raises:
        ValueError: It names a file; a checkpoint opens none outside its folder.
    """
    if isinstance(given, str) and given not in TABLES:
        raise ValueError(
            f"{path}: categories must be a list of entries or one of {', '.join(TABLES)}, "
            f"not {given!r}"
        )
    return given


def _own(names: Sequence[str], isthing: Sequence[bool]) -> CategoryMap:
    items: list[Category] = []
    ids: list[int] = []
    seen: Counter[str] = Counter()
    for name, thing in zip(names, isthing, strict=True):
        if means_nothing(name):
            ids.append(0)
            continue
        seen[name] += 1
        again = f" ({seen[name]})" if seen[name] > 1 else ""
        id_, background = len(items) + 1, means_background(name)
        color = "#000000" if background else color_at(id_)
        items.append(
            Category(
                id_,
                name.strip() + again,
                isthing=thing and not background,
                color=color,
                is_background=background,
            )
        )
        ids.append(id_)
    if not items:
        raise ValueError("no output of the model is a category")
    return CategoryMap("", Categories(tuple(items)), tuple(ids))


def _built_in(names: Sequence[str], table: CategoryTable) -> CategoryMap:
    ids: list[int] = []
    for index, name in enumerate(names):
        id_ = table.ids.get(plain_name(name))
        if id_ is None and not means_nothing(name) and not means_background(name):
            if len(names) == len(table.categories):
                ids = [item.id for item in table.categories]
                break
            raise ValueError(
                f"model.categories: {table.name} has no category for output {index}, {name!r}"
                f"{nearest(name, table.ids)}; name a file whose entries have an index"
            )
        ids.append(id_ or 0)
    twice = [id_ for id_, count in Counter(ids).items() if id_ and count > 1]
    if twice:
        raise ValueError(f"model.categories: two outputs are category {twice[0]} of {table.name}")
    items = tuple(item for item in table.categories if item.id in set(ids))
    if not items:
        raise ValueError(f"model.categories: no output of the model is a category of {table.name}")
    return CategoryMap(table.name, Categories(items), tuple(ids))


def _user(names: Sequence[str], rows: Any, *, where: str) -> CategoryMap:
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{where}: must be a list of at least one category")
    try:
        plain = [{key: row[key] for key in row if key != "index"} for row in rows]
        categories = Categories.from_json(plain)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if any("index" in row for row in rows):
        indices = [row.get("index") for row in rows]
    else:
        indices = _by_name(names, categories, where) or _by_order(names, categories, where)
    ids = [0] * len(names)
    for item, index in zip(categories, indices, strict=True):
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(names):
            raise ValueError(
                f"{where}: index of {item.name!r} is {index!r}; "
                f"it must be a number from 0 to {len(names) - 1}"
            )
        if ids[index]:
            raise ValueError(f"{where}: two categories have the index {index}")
        ids[index] = item.id
    return CategoryMap("", categories, tuple(ids))


def _by_name(names: Sequence[str], categories: Categories, where: str) -> list[int] | None:
    """None where no name is an output's."""
    index = {plain_name(name): i for i, name in reversed(list(enumerate(names)))}
    background = next((i for i, name in enumerate(names) if means_background(name)), None)
    found = [
        background if item.is_background and background is not None
        else index.get(plain_name(item.name))
        for item in categories
    ]  # fmt: skip
    if all(i is None for i, item in zip(found, categories, strict=True) if not item.is_background):
        return None
    for i, item in zip(found, categories, strict=True):
        if i is None:
            raise ValueError(
                f"{where}: no output of the model is called {item.name!r}"
                f"{nearest(item.name, names)}; give each entry an index"
            )
    return [i for i in found if i is not None]


def _by_order(names: Sequence[str], categories: Categories, where: str) -> list[int]:
    """Background is paired with background, where a model has an output for it."""
    background = [index for index, name in enumerate(names) if means_background(name)][:1]
    others = [
        index
        for index, name in enumerate(names)
        if not means_background(name) and not means_nothing(name)
    ]
    if len(others) == sum(not item.is_background for item in categories):
        rest, first = iter(others), iter(background)
        order = [next(first if item.is_background else rest, -1) for item in categories]
        if -1 not in order:
            return order
    if len(categories) == len(names):
        return list(range(len(names)))
    raise ValueError(
        f"{where}: {len(categories)} categories for a model of {len(names)} outputs, and no name "
        "is an output's; give each entry an index"
    )


# Described: what a checkpoint's configuration says of it, whatever its format. No torch here.


@dataclass(frozen=True, slots=True)
class Described:
    """What a folder's config.json says.

    Attributes:
        family: A key of `FAMILIES`.
        tasks: What it can do; the first is the default.
        outputs: Which categories its outputs are.
        licence: Of the weights, "" where nothing says.
        named: The one file of weights, where config.json names it.
    """

    family: str
    tasks: tuple[Task, ...]
    outputs: CategoryMap
    licence: str = ""
    named: str = ""


def in_order(tasks: Sequence[Task], *, first: Task) -> tuple[Task, ...]:
    """The default first, the others in the order of `TASKS`."""
    own: list[Task] = [task for task in TASKS if task in tasks]
    own.sort(key=lambda task: task != first)
    return tuple(own)


def named_task(name: str, tasks: Sequence[Task]) -> Task | None:
    """The first of the tasks that a checkpoint's name mentions: "ade-semantic" → semantic."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((task for task in tasks if task in words), None)
