"""Outcome: what came of each prompt of a picture, so that none is lost without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from schemas.prompts import (
    HANDED_THROUGH,
    MASK,
    NO_AREA,
    NO_MASK,
    OUTCOMES,
    OUTSIDE,
    STAND_IN,
    UNANSWERED,
)
from schemas.records import Prompt, Segment
from schemas.rows import PromptOutcome


def fault_of(prompt: Prompt, height: int, width: int) -> str:
    """Why a prompt asks for nothing in a picture of this size; "" if it asks for something.

    A box must have an area and touch a pixel; of points, one that means the object must be inside.

    Returns:
        `NO_AREA`, `OUTSIDE` or "".
    """
    if prompt.iscrowd:
        return ""
    if prompt.bbox_xyxy is not None:
        left, top, right, bottom = prompt.bbox_xyxy
        if right <= left or bottom <= top:
            return NO_AREA
        inside = left < width and right > 0 and top < height and bottom > 0
        return "" if inside else OUTSIDE
    meant = [
        point for point, flag in zip(prompt.points_xy, prompt.inside, strict=True) if flag
    ] or list(prompt.points_xy)
    return "" if any(0 <= x < width and 0 <= y < height for x, y in meant) else OUTSIDE


def prompt_rows(
    prompts: Sequence[Prompt], segments: Sequence[Segment], height: int, width: int
) -> list[PromptOutcome]:
    """The column `prompts` of an image's row: one entry a prompt, in the file's order.

    Args:
        prompts: Of the picture.
        segments: Its labels, in the order of the segment ids 1…n.
        height: Of the upright original, pixels.
        width: Of the same.
    """
    found: dict[int, tuple[int, Segment]] = {}
    for segment_id, segment in enumerate(segments, start=1):
        index = segment.evidence.prompt_index if segment.evidence else None
        if index is not None:
            found.setdefault(index, (segment_id, segment))
    return [_row(prompt, found.get(index), height, width) for index, prompt in enumerate(prompts)]


def outcome_note(rows: Sequence[PromptOutcome]) -> str:
    """What an image's `note` says of prompts without an annotation; "" where there is none."""
    counts = Counter(row["outcome"] for row in rows)
    lost = [f"{counts[name]} {OUTCOMES[name].split(':')[0]}" for name in UNANSWERED if counts[name]]
    return f"of {len(rows)} prompts {', '.join(lost)}" if lost else ""


def _row(
    prompt: Prompt, found: tuple[int, Segment] | None, height: int, width: int
) -> PromptOutcome:
    box = prompt.bbox_xyxy
    return {
        "source_id": None if prompt.source_id is None else str(prompt.source_id),
        "category_id": prompt.category_id,
        "bbox_xywh": box and [box[0], box[1], box[2] - box[0], box[3] - box[1]],
        "outcome": _outcome(prompt, found, height, width),
        "segment_id": found and found[0],
    }


def _outcome(prompt: Prompt, found: tuple[int, Segment] | None, height: int, width: int) -> str:
    if found is None:
        return fault_of(prompt, height, width) or NO_MASK
    if prompt.iscrowd:
        return HANDED_THROUGH
    evidence = found[1].evidence
    return STAND_IN if evidence is None or evidence.predicted_iou is None else MASK
