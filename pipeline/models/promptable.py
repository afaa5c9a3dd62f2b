"""Promptable models: what a checkpoint of one can be asked. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.categories import Categories, Category
from schemas.records import Task

from .category_map import CategoryMap
from .described import Described
from .embedder_kinds import EMBEDDERS


@dataclass(frozen=True, slots=True)
class Promptable:
    """A family that finds what it is asked for, instead of categories of its own.

    Attributes:
        family: A key of `FAMILIES`.
        by_text: It reads words; else it takes points and boxes, or segments everything.
        boxes_only: It finds boxes; a SAM beside it makes the masks.
        names_masks: It compares the masks of a SAM before it with words and exemplars.
        tasks: What it can do; the first is the default.
    """

    family: str
    by_text: bool
    boxes_only: bool = False
    names_masks: bool = False
    tasks: tuple[Task, ...] = ("instance", "panoptic")


_SAM = Promptable("sam", by_text=False)
_SAM3 = Promptable("sam3", by_text=True)
_DINO = Promptable("grounding-dino", by_text=True, boxes_only=True)
PROMPTABLE: dict[str, Promptable] = {
    "sam": _SAM,
    "sam_hq": _SAM,
    "sam2": _SAM,
    "sam2_video": _SAM,
    "edgetam": _SAM,
    "edgetam_video": _SAM,
    "grounding-dino": _DINO,
    "mm-grounding-dino": _DINO,
    "omdet-turbo": Promptable("omdet-turbo", by_text=True, boxes_only=True),
    "owlv2": Promptable("owlv2", by_text=True, boxes_only=True),
    "clipseg": Promptable("clipseg", by_text=True, tasks=("semantic",)),
    "sam3": _SAM3,
    "sam3_video": _SAM3,
    **dict.fromkeys(EMBEDDERS, Promptable("embedder", by_text=True, names_masks=True)),
}
"""`model_type` of a config.json → what it is."""

OBJECT = Category(1, "object", isthing=True, color="#ffb000")
"""What everything-masks are: things without a name."""


def read_promptable(config: Mapping[str, Any]) -> Described | None:
    """The description of a promptable checkpoint; None for another one."""
    found = PROMPTABLE.get(str(config.get("model_type")))
    if found is None:
        return None
    return Described(found.family, found.tasks, CategoryMap("", Categories((OBJECT,)), ()))


def promptable(family: str) -> Promptable | None:
    """What a family is, if it is promptable."""
    return next((item for item in PROMPTABLE.values() if item.family == family), None)
