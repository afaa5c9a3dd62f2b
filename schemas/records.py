"""What flows through a run: ImageRecord → Sample → Segmentation of Segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import isfinite
from typing import Literal

import numpy as np
import numpy.typing as npt

from .suggest import nearest

Task = Literal["semantic", "instance", "panoptic"]
TASKS: tuple[Task, ...] = ("semantic", "instance", "panoptic")


def task_named(name: str) -> Task:
    """The task of this name.

    Raises:
        ValueError: There is none; names the nearest and all.
    """
    for task in TASKS:
        if task == name:
            return task
    raise ValueError(f"unknown task {name!r}{nearest(name, TASKS)}; known: {', '.join(TASKS)}")


SEGMENT_BITS = 21
"""Low bits of an annotation id that hold the segment id: 2,097,151 segments an image."""

MAX_IMAGE_ID = 2**31 - 1
"""Image ids fit a signed 32-bit integer; annotation ids stay below 2**52, exact in JSON readers."""


class Status(StrEnum):
    """How an image ended. Every input image has exactly one."""

    OK = "ok"
    EMPTY = "empty"
    """Looked at, and nothing was found (background alone is nothing)."""
    FAILED = "failed"
    SKIPPED = "skipped"


class ErrorCode(StrEnum):
    """Why an image is `failed` or `skipped`; a stable word a query can filter on."""

    READ_ERROR = "read_error"
    EMPTY_FILE = "empty_file"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED = "truncated"
    DECODE_ERROR = "decode_error"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    MODEL_ERROR = "model_error"
    BAD_PROMPT = "bad_prompt"
    """The file of prompts asks something of this picture that cannot be."""
    TOO_MANY_SEGMENTS = "too_many_segments"
    AUGMENT_ERROR = "augment_error"
    """A copy could not be made: it would be too large."""
    CRASHED = "crashed"
    """The worker process died on this image again and again."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One input image, as a listing knows it: no pixel has been read.

    Attributes:
        file_name: Path relative to the input root, "/"-separated; unique in a dataset. A tar
            member is "shard.tar/member.jpg", a Parquet row "file.parquet/<row or path>".
        uri: Absolute URI of the file that holds the bytes.
        size: Length of the image's bytes, −1 where the listing does not tell.
        token: Changes when the bytes may have changed: an etag, or "mtime_ns" of a local file.
        offset: First byte inside the file `uri` (tar member), −1 for a whole file.
        row: Row in a Parquet or Arrow file, −1 otherwise.
        item: Position in a row that holds a list of images, −1 otherwise.
        image_id: 1…2**31−1, given by the planner from `file_name`; 0 before that.
        copy_ids: Image ids that its augmented copies would have, likewise.
        plane: Which of the file's planes this image is: "page=3", "z=3" or "t=3", counted from 1;
            "" for the file as a whole. It ends `file_name` after a "#".
        part: Name of the part whose row of this image still stands, so that its bytes need not be
            read; "" where they must be.
    """

    file_name: str
    uri: str
    size: int = -1
    token: str = ""
    offset: int = -1
    row: int = -1
    image_id: int = 0
    copy_ids: tuple[int, ...] = ()
    item: int = -1
    plane: str = ""
    part: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an image could not be labelled.

    Attributes:
        code: A stable word.
        message: One line for a person.
        temporary: Whether another try may end otherwise though the code alone does not say so:
            the worker had too little memory. Never kept as a label.
    """

    code: ErrorCode
    message: str
    temporary: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """A box or points that ask for one segment, in the original picture's pixels.

    Attributes:
        category_id: Of the segment that is asked for.
        bbox_xyxy: Left, top, right, bottom; None where only points are given.
        points_xy: Positions; may be empty beside a box.
        inside: One flag a point: True = on the object, False = beside it.
        source_id: Id of the annotation in the file of prompts, number or text, or None.
        iscrowd: A region of many objects. It asks nothing: `counts` is handed through.
        counts: Compressed RLE string that the file has for it, or None.
    """

    category_id: int
    bbox_xyxy: tuple[float, float, float, float] | None = None
    points_xy: tuple[tuple[float, float], ...] = ()
    inside: tuple[bool, ...] = ()
    source_id: int | str | None = None
    iscrowd: bool = False
    counts: bytes | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies after preprocessing gave it another size.

    Attributes:
        picture_hw: Of the original, pixels.
        content_hw: Of the resized picture.
        input_hw: Of the whole, with what was filled around it.
        offset_yx: Of the resized picture's top left pixel in the whole.
    """

    picture_hw: tuple[int, int]
    content_hw: tuple[int, int]
    input_hw: tuple[int, int]
    offset_yx: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Sample:
    """An image with its pixels; never leaves the worker.

    Attributes:
        record: Where it came from.
        pixels: HWC uint8 RGB, after EXIF rotation. May be smaller than `original_hw` where the
            decoder was told that the model needs less.
        original_hw: (height, width) after EXIF rotation; masks are in these pixels.
        orientation: EXIF orientation that was applied, 1…8 (1 = as stored).
        image_format: "JPEG", "PNG", …
        note: What was dropped or assumed in decoding ("first of 3 pages"), or "".
        whole: Of a tile: the picture it was cut from, for models that look at it as a whole
            (percentiles); None where `pixels` is the picture.
        corner_yx: Of a tile: where its first pixel lies in `whole`.
        prompts: What the file of prompts asks of this picture.
        placement: Where the original lies in `pixels`, if preprocessing gave it another size:
            models then see a picture of `original_hw` = `placement.input_hw`, and what they find
            is brought back to the original's pixels afterwards.
    """

    record: ImageRecord
    pixels: npt.NDArray[np.uint8]
    original_hw: tuple[int, int]
    orientation: int = 1
    image_format: str = ""
    note: str = ""
    whole: npt.NDArray[np.uint8] | None = None
    corner_yx: tuple[int, int] = (0, 0)
    prompts: tuple[Prompt, ...] = ()
    placement: Placement | None = None

    @property
    def picture_hw(self) -> tuple[int, int]:
        """(height, width) of the original, in whose pixels masks are written."""
        return self.placement.picture_hw if self.placement else self.original_hw


@dataclass(frozen=True, slots=True)
class Evidence:
    """How a promptable model came to a segment; every value may be unknown.

    Attributes:
        predicted_iou: SAM's own estimate of the mask's quality.
        stability_score: IoU of the mask cut a little higher and a little lower (SAM).
        point_xy: The point that prompted it, pixels of the original picture.
        crop_xywh: The crop of the picture that the model saw, pixels.
        prompt_bbox_xywh: The box that prompted it, pixels; `bbox_xywh` is the mask's own.
        source_id: Id of the annotation in the file of prompts, number or text.
        prompt_index: Place among the picture's prompts, from 0.
    """

    predicted_iou: float | None = None
    stability_score: float | None = None
    point_xy: tuple[float, float] | None = None
    crop_xywh: tuple[int, int, int, int] | None = None
    prompt_bbox_xywh: tuple[float, float, float, float] | None = None
    source_id: int | str | None = None
    prompt_index: int | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """One region of one category, in the original image's pixels.

    Attributes:
        category_id: ≥ 1, a key of the run's categories.
        counts: COCO's compressed RLE string of the mask (column-major, zeros first), ASCII bytes,
            byte-equal to `pycocotools.mask.encode(mask)["counts"]`.
        area: Mask pixels, ≥ 1.
        bbox_xywh: Tight box (x, y, width, height) in pixels, 0-indexed from the top left.
        score: Confidence in 0…1, or None where the model gives none.
        prompt: The prompt that found it, or None.
        tta_agreement: Share of the views of test-time augmentation that agree, 0…1; None without.
        task: Which of the run's tasks it answers; None = the only one.
        iscrowd: A region of objects nobody outlined one by one, handed through from a file of
            prompts; a model finds none.
        evidence: How a promptable model came to it, or None.
    """

    category_id: int
    counts: bytes
    area: int
    bbox_xywh: tuple[int, int, int, int]
    score: float | None = None
    prompt: str | None = None
    tta_agreement: float | None = None
    task: Task | None = None
    iscrowd: bool = False
    evidence: Evidence | None = None

    @property
    def finite(self) -> bool:
        """Whether its scores are numbers; the stability of an empty mask is NaN by definition."""
        quality = self.evidence.predicted_iou if self.evidence is not None else None
        return all(isfinite(x) for x in (self.score, self.tta_agreement, quality) if x is not None)

    @property
    def sure(self) -> float:
        """The score for those that compare: 1 where the model gives none."""
        return 1.0 if self.score is None else self.score


@dataclass(frozen=True, slots=True)
class Segmentation:
    """All segments of one image.

    Attributes:
        height: Of the original image, pixels.
        width: Of the original image, pixels.
        segments: In the order that segment ids 1…n follow. Must be deterministic. Those of
            several tasks one after the other, in the order of `TASKS`.
        failure: Set where the model could not do this image; `segments` is then empty.
    """

    height: int
    width: int
    segments: tuple[Segment, ...] = field(default=())
    failure: Failure | None = None


def answer(height: int, width: int, found: Mapping[Task, Sequence[Segment]]) -> Segmentation:
    """The segmentation of one image, from what was found for each task.

    Args:
        height: Of the original image, pixels.
        width: Of the original image, pixels.
        found: Task → its segments, in the order of `TASKS`. Where there are several tasks, each
            segment names its own.
    """
    if len(found) == 1:
        (segments,) = found.values()
        return Segmentation(height, width, tuple(segments))
    named = (replace(one, task=task) for task, segments in found.items() for one in segments)
    return Segmentation(height, width, tuple(named))


def annotation_id(image_id: int, segment_id: int) -> int:
    """The id of a segment's annotation, unique in a dataset and below 2**52.

    Args:
        image_id: 1…2**31−1.
        segment_id: 1…2**21−1 inside the image.

    Raises:
        ValueError: An argument is out of range.
    """
    if not 1 <= image_id <= MAX_IMAGE_ID:
        raise ValueError(f"image_id must be in 1…{MAX_IMAGE_ID}, got {image_id}")
    if not 1 <= segment_id < 1 << SEGMENT_BITS:
        raise ValueError(f"segment_id must be in 1…{(1 << SEGMENT_BITS) - 1}, got {segment_id}")
    return image_id << SEGMENT_BITS | segment_id
