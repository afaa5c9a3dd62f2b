"""Annotation rows of a copy: what a changed scene still shows of each segment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from schemas.records import TASKS, Task, annotation_id

from .masks import regions
from .parts import Row
from .transforms.augment_chain import shares
from .transforms.scene import Scene

_OF_THE_PARENT = ("point_xy", "crop_xywh", "prompt_bbox_xywh")
"""Columns in the parent's pixels, which say nothing of a copy."""


def copied_rows(
    scene: Scene, rows: Sequence[Row], *, image_id: int, min_visible: float
) -> list[Row]:
    """Rows of what is left of each segment, by task and then in the order of `rows`.

    Things of which too little is left are dropped. Segments of a category that a picture has once
    (stuff; everything in the semantic task) become one where pictures were mixed.

    Args:
        scene: Its labels 1…n count the rows.
        rows: n annotation rows, of the parent and of pictures that were mixed in.
        image_id: Of the copy.
        min_visible: Least share of its area that a thing must show.
    """
    count = len(rows)
    areas = np.array([row["area"] for row in rows], np.int64)
    left, present = np.zeros(count), np.zeros(count, np.bool_)
    maps: list[tuple[Task, npt.NDArray[np.int32]]] = [
        (task, layer) for task in TASKS for layer in scene.layers.get(task, ())
    ]
    for _, layer in maps:
        left += shares(layer, areas, scene.density)  # each segment lies in one layer
        present |= np.bincount(layer.reshape(-1), minlength=count + 1)[1:] > 0
    group = _groups(rows, present)
    total = np.bincount(group, areas * present, minlength=count)
    kept = np.bincount(group, left * areas * present, minlength=count)
    visible = np.minimum(kept / np.maximum(total, 1), 1.0)
    found: list[tuple[Task, int, Row]] = []
    for task, layer in maps:
        for region in regions(np.append(0, group + 1).astype(np.int32)[layer]):
            place = region.label - 1
            row, share = rows[place], float(visible[place])
            if row["isthing"] and task != "semantic" and share < min_visible:
                continue
            new = {
                **row,
                **dict.fromkeys(_OF_THE_PARENT),
                "image_id": image_id,
                "area": region.area,
                "bbox_xywh": list(region.bbox_xywh),
                "rle": {"size": list(scene.size_hw), "counts": region.counts.decode("ascii")},
                "visible_fraction": share,
            }
            found.append((task, place, new))
    found.sort(key=lambda item: (TASKS.index(item[0]), item[1]))
    return [
        {**row, "segment_id": i, "annotation_id": annotation_id(image_id, i)}
        for i, (_, _, row) in enumerate(found, start=1)
    ]


def _groups(rows: Sequence[Row], present: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Per row: the first row that it is one segment with, mostly itself."""
    first: dict[tuple[str, int], int] = {}
    group = np.arange(len(rows))
    for place, row in enumerate(rows):
        once = row["task"] == "semantic" or (row["task"] == "panoptic" and not row["isthing"])
        if once and present[place]:
            group[place] = first.setdefault((row["task"], row["category_id"]), place)
    return group
