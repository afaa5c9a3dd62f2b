"""Reads a config.json of our own format ("format": "maskmill"). No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.categories import Categories
from schemas.records import TASKS, Task
from schemas.suggest import nearest

from .description import CategoryMap, Described, in_order, map_chosen
from .families import FAMILIES, OBJECT, promptable


def read_own(path: Path, config: Mapping[str, Any], *, categories: str = "") -> Described:
    """What the file says.

    Args:
        path: The config.json, named in errors.
        config: What it holds.
        categories: A table that the user chose, "" = the file's own.

    Raises:
        ValueError: Names the file and the key that is wrong.
    """
    family = str(config.get("family", ""))
    if family not in FAMILIES:
        raise ValueError(
            f"{path}: unknown family {family!r}{nearest(family, FAMILIES)}; "
            f"known: {', '.join(FAMILIES)}"
        )
    if promptable(family) is not None:
        if categories:
            raise ValueError(f"model.categories: {family!r} finds what it is asked for")
        return Described(
            family=family,
            tasks=FAMILIES[family].tasks,
            outputs=CategoryMap("", Categories((OBJECT,)), ()),
            licence=str(config.get("licence", "")),
            named=str(config.get("weights", "")),
        )
    tasks = _tasks(path, config.get("tasks"))
    table = _categories(path, config.get("categories"))
    ids = _ids(path, config.get("category_ids", []), table)
    outputs = CategoryMap("", table, ids)
    if categories:
        if not ids:
            raise ValueError(f"model.categories: the family {family!r} has its own alone")
        names = table.by_id()
        outputs = map_chosen([names[id_].name if id_ else "" for id_ in ids], categories)
    return Described(
        family=family,
        tasks=tasks,
        outputs=outputs,
        licence=str(config.get("licence", "")),
        named=str(config.get("weights", "")),
    )


def _tasks(path: Path, given: Any) -> tuple[Task, ...]:
    if not isinstance(given, list) or not given or not all(task in TASKS for task in given):
        raise ValueError(f"{path}: tasks must be a list of some of {', '.join(TASKS)}")
    return in_order(given, first=given[0])


def _categories(path: Path, given: Any) -> Categories:
    try:
        categories = Categories.from_json(given or ())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not len(categories):
        raise ValueError(f"{path}: categories must be a list of at least one")
    return categories


def _ids(path: Path, given: Any, categories: Categories) -> tuple[int, ...]:
    known = categories.by_id()
    numbers = isinstance(given, list) and all(type(id_) is int for id_ in given)
    if not numbers or any(id_ and id_ not in known for id_ in given):
        raise ValueError(f"{path}: category_ids must be ids of its categories, or 0 for none")
    if any(id_ and count > 1 for id_, count in Counter(given).items()):
        raise ValueError(f"{path}: category_ids has a category twice")
    return tuple(given)
