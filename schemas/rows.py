"""Rows of the two published tables, as the program holds them: `tables.py` column by column.

A row that is written has every column, null where it says nothing. One that was read with some
columns asked for has those alone; one of an earlier schema version lacks what came later, and
those columns are asked for with `get`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from .records import Task


class Rle(TypedDict):
    """COCO's compressed mask: `size` is [height, width], `counts` ASCII text."""

    size: Sequence[int]
    counts: str


class PromptOutcome(TypedDict):
    """What came of one prompt of a file of prompts; `outcome` is a key of `prompts.OUTCOMES`."""

    source_id: str | None
    category_id: int
    bbox_xywh: Sequence[float] | None
    outcome: str
    segment_id: int | None


class ImageRow(TypedDict):
    """One image, or one copy of an image. `width` and `height` are after EXIF rotation."""

    image_id: int
    file_name: str
    width: int | None
    height: int | None
    status: str
    error_code: str | None
    error_message: str | None
    num_segments: int
    image_format: str | None
    exif_orientation: int | None
    note: str | None
    size_bytes: int | None
    sha256: str | None
    fingerprint: str
    split: str | None
    parent_image_id: int | None
    augmentation: str | None
    prompts: list[PromptOutcome] | None
    parent_file_name: str | None
    plane_axis: str | None
    plane_index: int | None
    locked: bool | None
    locked_by: str | None
    locked_at: str | None
    locked_from: str | None


class Origin(TypedDict):
    """Who found a segment: the three columns that all of a run's rows share."""

    model: str
    model_revision: str
    run: str


class AnnotationRow(Origin):
    """One segment. Boxes and points are in the original image's pixels."""

    annotation_id: int
    image_id: int
    segment_id: int
    category_id: int
    category: str
    isthing: bool
    iscrowd: int
    area: int
    bbox_xywh: Sequence[int]
    rle: Rle
    score: float | None
    tta_agreement: float | None
    task: Task
    prompt: str | None
    predicted_iou: float | None
    stability_score: float | None
    point_xy: Sequence[float] | None
    crop_xywh: Sequence[int] | None
    prompt_bbox_xywh: Sequence[float] | None
    source_id: int | None
    source_key: str | None
    visible_fraction: float | None
    locked: bool | None


LabelledRows = tuple[ImageRow, list[AnnotationRow]]
"""An image's row and those of its segments."""


def size_of(row: ImageRow) -> tuple[int, int]:
    """(height, width) of an image that was looked at.

    Raises:
        ValueError: It was not, and has no size.
    """
    height, width = row["height"], row["width"]
    if height is None or width is None:
        raise ValueError(f"{row['file_name']} was not looked at and has no size")
    return height, width
