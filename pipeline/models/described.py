"""Described: what a checkpoint's configuration says of it, whatever its format. No torch here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.records import TASKS, Task

from .category_map import CategoryMap


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
