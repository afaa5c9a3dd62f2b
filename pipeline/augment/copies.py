"""Augmented copies of one picture: new pixels, new rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.ledger.parts import image_row, read_part
from pipeline.ledger.views import PARENT, is_copy
from pipeline.masks.codec import regions
from pipeline.storage.errors import StorageError
from pipeline.storage.optional import files_in
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.config.augment import AugmentConfig
from schemas.config.augment_steps import MIXING, AnyStep, CopyPaste, Mosaic
from schemas.manifest import Part
from schemas.records import TASKS, ErrorCode, Failure, ImageRecord, Task, annotation_id
from schemas.rows import AnnotationRow, ImageRow, LabelledRows

from .chain import AugmentChain, visible_shares
from .partners import Parent, with_mosaic, with_paste
from .scene import Scene

# Annotation rows of a copy: what a changed scene still shows of each segment.


def copied_rows(
    scene: Scene, rows: Sequence[AnnotationRow], *, image_id: int, min_visible: float
) -> list[AnnotationRow]:
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
        left += visible_shares(layer, areas, scene.density)  # each segment lies in one layer
        present |= np.bincount(layer.reshape(-1), minlength=count + 1)[1:] > 0
    group = _groups(rows, present)
    total = np.bincount(group, areas * present, minlength=count)
    kept = np.bincount(group, left * areas * present, minlength=count)
    visible = np.minimum(kept / np.maximum(total, 1), 1.0)
    found: list[tuple[Task, int, AnnotationRow]] = []
    for task, layer in maps:
        for region in regions(np.append(0, group + 1).astype(np.int32)[layer]):
            place = region.label - 1
            row, share = rows[place], float(visible[place])
            if row["isthing"] and task != "semantic" and share < min_visible:
                continue
            new: AnnotationRow = {
                **row,
                "point_xy": None,  # in the parent's pixels, which say nothing of a copy
                "crop_xywh": None,
                "prompt_bbox_xywh": None,
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


def _groups(rows: Sequence[AnnotationRow], present: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Per row: the first row that it is one segment with, mostly itself."""
    first: dict[tuple[str, int], int] = {}
    group = np.arange(len(rows))
    for place, row in enumerate(rows):
        once = row["task"] == "semantic" or (row["task"] == "panoptic" and not row["isthing"])
        if once and present[place]:
            group[place] = first.setdefault((row["task"], row["category_id"]), place)
    return group


Pixels = npt.NDArray[np.uint8]

FOLDER = "augmented"
"""Below the dataset's root; also the beginning of a copy's file_name."""


class CopyMaker:
    """Makes copies; safe to call from threads.

    A copy depends on the seed, the parent and the copy's number, and where steps mix pictures on
    the parent's neighbours: not on who makes it.

    Args:
        config: The section.
        storage: Of the output.
        dataset: Absolute URI of the output.
        background: Category ids whose segments count as nothing found.
    """

    def __init__(
        self, config: AugmentConfig, storage: Storage, dataset: str, background: frozenset[int]
    ) -> None:
        self.mixes = any(step.step in MIXING for step in config.chain())
        self._config = config
        self._storage = storage
        self._dataset = dataset
        self._background = background
        self._units: list[AugmentChain | AnyStep] = []
        for mixing, steps in groupby(config.chain(), key=lambda step: step.step in MIXING):
            own = list(steps)
            self._units += own if mixing else [AugmentChain(config, own)]

    def copies(self, parent: Parent, neighbours: Sequence[Parent] = ()) -> list[LabelledRows]:
        """All copies of one picture, written to the dataset.

        Args:
            parent: Which.
            neighbours: What steps that mix may take from, itself included; the same in each run.

        Returns:
            An image row with its annotation rows for each.

        Raises:
            StorageError: A copy cannot be written.
        """
        try:
            pixels = parent.load()
        except (StorageError, ValueError) as error:
            lost = Failure(ErrorCode.READ_ERROR, " ".join(str(error).split())[:500])
            return self.failed(parent.record, parent.image, lost)
        out = []
        for number in range(self._config.copies):
            try:
                made = self._changed(parent, pixels, number, neighbours)
            except (ValueError, cv2.error, MemoryError) as error:
                failure = Failure(ErrorCode.AUGMENT_ERROR, " ".join(str(error).split())[:500])
                out.append(self._failed(parent.record, parent.image, number, failure))
                continue
            out.append(self._written(parent, number, *made))
        return out

    def _changed(
        self, parent: Parent, pixels: Pixels, number: int, neighbours: Sequence[Parent]
    ) -> tuple[Scene, list[AnnotationRow], list[dict[str, Any]]]:
        """The copy, the rows that its labels count, and what was drawn.

        Raises:
            ValueError: It would be too large, or another picture cannot be had.
        """
        rng = np.random.default_rng([self._config.seed, parent.record.image_id, number])
        rows = list(parent.rows)
        scene = Scene.of(pixels, rows)
        others = [item for item in neighbours if item.record.image_id != parent.record.image_id]
        steps: list[dict[str, Any]] = []
        for unit in self._units:
            if isinstance(unit, AugmentChain):
                boxes = _boxes(scene, rows) if unit.looks_at_objects else np.empty((0, 4))
                draw = unit.draw(rng, scene.size_hw, boxes_xyxy=boxes)
                scene = scene.apply(draw)
                steps += draw.parameters()
            elif rng.random() < unit.p:
                if isinstance(unit, Mosaic):
                    scene, drawn = with_mosaic(rng, unit, scene, rows, others)
                elif isinstance(unit, CopyPaste):
                    scene, drawn = with_paste(rng, unit, scene, rows, others)
                else:
                    raise ValueError(f"unknown step {unit.step!r}")
                steps += drawn
        return scene, rows, steps

    def _written(
        self,
        parent: Parent,
        number: int,
        scene: Scene,
        rows: Sequence[AnnotationRow],
        steps: Sequence[Any],
    ) -> LabelledRows:
        image_id = parent.record.copy_ids[number]
        suffix, options = "png", []
        if self._config.format == "jpeg":
            suffix, options = "jpg", [cv2.IMWRITE_JPEG_QUALITY, self._config.quality]
        bgr = np.ascontiguousarray(scene.pixels[..., ::-1])
        try:
            done, encoded = cv2.imencode(f".{suffix}", bgr, options)
        except cv2.error:  # a side of more than 65,535 pixels, as JPEG
            done, encoded = False, np.empty(0, np.uint8)
        if not done:
            height, width = scene.size_hw
            text = f"a copy of {width}x{height} pixels does not fit into a {suffix} file"
            return self._failed(
                parent.record, parent.image, number, Failure(ErrorCode.AUGMENT_ERROR, text)
            )
        data = encoded.tobytes()
        sha256 = hashlib.sha256(data).hexdigest()
        name = f"{_stem(image_id)}-{sha256[:16]}.{suffix}"
        self._storage.create(join(self._dataset, name), data)
        segments = copied_rows(scene, rows, image_id=image_id, min_visible=self._config.min_visible)
        image = image_row(
            ImageRecord(name, "", image_id=image_id),
            segments=segments,
            background=self._background,
            original_hw=scene.size_hw,
            image_format="JPEG" if suffix == "jpg" else "PNG",
            orientation=1,
            size_bytes=len(data),
            sha256=sha256,
        )
        return self._child(parent.image, number, image, steps), segments

    def failed(self, record: ImageRecord, image: ImageRow, failure: Failure) -> list[LabelledRows]:
        """Rows of all copies of a picture of which none can be made.

        Args:
            record: The picture.
            image: Its row.
            failure: Why.
        """
        numbers = range(self._config.copies)
        return [self._failed(record, image, number, failure) for number in numbers]

    def _failed(
        self, record: ImageRecord, image: ImageRow, number: int, failure: Failure
    ) -> LabelledRows:
        image_id = record.copy_ids[number]
        row = image_row(ImageRecord(_stem(image_id), "", image_id=image_id), failure=failure)
        return self._child(image, number, row, ()), []

    def _child(
        self, parent: ImageRow, number: int, image: ImageRow, steps: Sequence[Any]
    ) -> ImageRow:
        drawn = {
            "copy": number + 1,
            "seed": self._config.seed,
            "fill": list(self._config.fill_rgb),
            "steps": list(steps),
        }
        return {
            **image,
            "split": parent["split"],
            "parent_image_id": parent["image_id"],
            "augmentation": json.dumps(drawn, separators=(",", ":")),
        }


def _boxes(scene: Scene, rows: Sequence[AnnotationRow]) -> npt.NDArray[np.float64]:
    """Nx4 xyxy of the things in a scene."""
    boxes = [
        region.bbox_xywh
        for own in scene.layers.values()
        for layer in own
        for region in regions(layer)
        if rows[region.label - 1]["isthing"]
    ]
    xywh = np.array(boxes, np.float64).reshape(-1, 4)
    xywh[:, 2:] += xywh[:, :2]
    return xywh


def _stem(image_id: int) -> str:
    return f"{FOLDER}/{image_id % 256:02x}/{image_id:08x}"


def missing_copies(storage: Storage, dataset: str, parts: Sequence[Part]) -> set[str]:
    """Names of the parts of which a copy's file is gone: their shards are done again."""
    parts = [part for part in parts if part.copies]
    if not parts:
        return set()
    there = {f"{FOLDER}/{entry.path}" for entry in files_in(storage, join(dataset, FOLDER))}

    def incomplete(part: Part) -> bool:
        try:
            return not there.issuperset(copy_files(storage, dataset, part))
        except (StorageError, ValueError):
            return False  # a damaged part would not get better: jobs.validate names it

    with ThreadPoolExecutor(16) as pool:
        gone = pool.map(incomplete, parts)
        return {part.name for part, lost in zip(parts, gone, strict=True) if lost}


def copy_files(storage: Storage, dataset: str, part: Part) -> list[str]:
    """File names of the copies of a part, relative to the dataset; not of those that failed.

    Raises:
        StorageError: The part cannot be read.
        ValueError: It is damaged.
    """
    if not part.copies:
        return []
    columns = ["file_name", PARENT, "error_code"]
    rows = read_part(storage, dataset, "images", part.name, columns).to_pylist()
    return [row["file_name"] for row in rows if is_copy(row) and not row["error_code"]]
