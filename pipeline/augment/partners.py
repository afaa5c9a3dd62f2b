"""The pictures that take part in a copy: its parent, and those that lend segments or quarters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.storage.errors import StorageError
from schemas.categories import Categories
from schemas.config.augment import AugmentConfig
from schemas.config.augment_steps import CopyPaste, Mosaic
from schemas.records import ImageRecord
from schemas.rows import AnnotationRow, ImageRow
from schemas.suggest import nearest

from .scene import Scene, draw_mosaic, draw_paste, mosaic, paste

Pixels = npt.NDArray[np.uint8]
Mixed = tuple[Scene, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Parent:
    """A labelled picture that is copied, or whose parts are pasted into another's copies.

    Attributes:
        record: Which, with the ids of its copies.
        image: Its image row.
        rows: Its annotation rows.
        load: Gives its pixels, HxWx3 uint8 after EXIF rotation.
    """

    record: ImageRecord
    image: ImageRow
    rows: Sequence[AnnotationRow]
    load: Callable[[], Pixels]


def pasteable(step: CopyPaste, rows: Sequence[AnnotationRow]) -> list[AnnotationRow]:
    """The segments of a picture that `step` may paste: things, of the task that tells objects."""
    for task in ("instance", "panoptic", "semantic"):
        own = [row for row in rows if row["task"] == task]
        if own:
            named = step.categories
            return [
                row
                for row in own
                if not row["iscrowd"] and (row["category"] in named if named else row["isthing"])
            ]
    return []


def with_paste(
    rng: np.random.Generator,
    step: CopyPaste,
    scene: Scene,
    rows: list[AnnotationRow],
    others: Sequence[Parent],
) -> Mixed:
    """A scene with segments of one of the others; as it was where none has any.

    Args:
        rng: Source of all randomness.
        step: How.
        scene: That they are pasted on.
        rows: Annotation rows that the scene's labels count; grows by the other's.
        others: To choose from.

    Returns:
        The scene, and what was drawn: one step or none.

    Raises:
        ValueError: The other picture cannot be read.
    """
    offered = [(item, pasteable(step, item.rows)) for item in others]
    offered = [(item, found) for item, found in offered if found]
    if not offered:
        return scene, []
    partner, found = offered[int(rng.integers(len(offered)))]
    choices = [(row["segment_id"], row["bbox_xywh"]) for row in found]
    drawn = draw_paste(rng, step, scene.size_hw, choices)
    first = len(rows) + 1
    other = Scene.of(_pixels(partner), partner.rows, first=first)
    labels = [first - 1 + segment_id for segment_id in drawn["segments"]]
    rows += partner.rows
    said = {"step": step.step, "image_id": partner.record.image_id, **drawn}
    return paste(scene, other, drawn, labels), [said]


def with_mosaic(
    rng: np.random.Generator,
    step: Mosaic,
    scene: Scene,
    rows: list[AnnotationRow],
    others: Sequence[Parent],
) -> Mixed:
    """A scene with three others as quarters; as it was where there are not three.

    Args, Returns and Raises are those of `with_paste`.
    """
    if len(others) < 3 or min(scene.size_hw) < 2:
        return scene, []
    chosen = [others[int(i)] for i in rng.choice(len(others), 3, replace=False)]
    scenes = [scene]
    for partner in chosen:
        scenes.append(Scene.of(_pixels(partner), partner.rows, first=len(rows) + 1))
        rows += partner.rows
    drawn, order = draw_mosaic(rng, step, [one.size_hw for one in scenes])
    ids = [0, *(partner.record.image_id for partner in chosen)]  # 0: the copy itself
    said = {"step": step.step, "image_ids": [ids[i] for i in order], **drawn}
    return mosaic([scenes[i] for i in order], drawn, scene.size_hw), [said]


def _pixels(partner: Parent) -> Pixels:
    try:
        return partner.load()
    except StorageError as error:
        raise ValueError(f"{partner.record.file_name}: {error}") from error


def check_pasted(config: AugmentConfig, categories: Categories) -> None:
    """Sees that the categories that copy_paste names exist.

    Raises:
        ValueError: One does not; names the nearest and all.
    """
    names = [item.name for item in categories]
    for step in config.steps if config.copies else ():
        for name in step.categories if isinstance(step, CopyPaste) else ():
            if name not in names:
                raise ValueError(
                    f"augment.steps: copy_paste: no category is called {name!r}"
                    f"{nearest(name, names)}; known: {', '.join(names)}"
                )
