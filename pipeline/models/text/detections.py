"""Sightings: where a text-prompted model sees what, and which of it is kept. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.models.grids.geometry import Frame

from .phrases import Choice, choose
from .request import TextRequest

Floats = npt.NDArray[np.float64]

SAME_PLACE = 0.7
"""IoU from which two boxes are taken for one place."""

TWICE = 0.9
"""IoU from which a weaker box of the same category would only be the same mask again."""


@dataclass(frozen=True, slots=True)
class Detections:
    """What a model sees in one picture, before anything is decided.

    Attributes:
        boxes_xyxy: n×4, pixels of the picture.
        scores: n×p in 0…1, of every answer and phrase; NaN where an answer was not asked about a
            phrase, since both were in different texts.
        masks: n×h×w logits of a model that outlines by itself, on its device; else None.
    """

    boxes_xyxy: Floats
    scores: Floats
    masks: Any = None


def of_several_texts(
    answers: Sequence[Floats],
    asked: Sequence[Sequence[int]],
    frames: Sequence[Frame],
    *,
    phrases: int,
) -> list[Detections]:
    """What a batch of pictures answers to texts that hold a part of the phrases each.

    Args:
        answers: Of each text, n×(1 + 4 + p): index of the picture, box (centre and size, shares of
            the input), score of each of the text's p phrases.
        asked: Of each text, the indices of its p phrases.
        frames: Of the pictures.
        phrases: How many there are in all.
    """
    places, boxes, scores = [], [], []
    for rows, columns in zip(answers, asked, strict=True):
        places.append(rows[:, 0].astype(np.int64))
        boxes.append(rows[:, 1:5])
        own = np.full((len(rows), phrases), np.nan)
        own[:, columns] = rows[:, 5:]
        scores.append(own)
    place, box, score = np.concatenate(places), np.concatenate(boxes), np.concatenate(scores)
    return [
        Detections(boxes_in_picture(box[place == index], frame), score[place == index])
        for index, frame in enumerate(frames)
    ]


def boxes_in_picture(boxes_cxcywh: Floats, frame: Frame) -> Floats:
    """Boxes from shares of a model's input to pixels of the picture.

    Args:
        boxes_cxcywh: n×4: centre, width and height; 0…1 over the whole input, padding included.
        frame: Where the picture lies in the input.

    Returns:
        n×4 left, top, right, bottom, inside the picture.
    """
    half = boxes_cxcywh[:, 2:] / 2
    corners = np.stack((boxes_cxcywh[:, :2] - half, boxes_cxcywh[:, :2] + half), 1)
    return corners_in_picture(corners.reshape(-1, 4), frame)


def corners_in_picture(boxes_xyxy: Floats, frame: Frame) -> Floats:
    """As `boxes_in_picture`, from left, top, right, bottom."""
    whole, offset, content, picture = (
        np.array(pair[::-1], np.float64)
        for pair in (frame.input_hw, frame.offset_yx, frame.content_hw, frame.picture_hw)
    )
    corners = (boxes_xyxy.reshape(-1, 2, 2) * whole - offset) * (picture / content)
    return corners.clip(0, picture).reshape(-1, 4)


def select(seen: Detections, asking: TextRequest) -> Choice:
    """Decides which answers are kept, and of which category they are.

    A box that was not asked about a negative phrase takes that phrase's score from the boxes of
    the same place that were. Boxes that are one and the same box again, of the same category,
    are left out: a mask of each would cost time and be dropped later.
    """
    boxes = seen.boxes_xyxy
    sides = boxes[:, 2:] - boxes[:, :2]
    scores = _completed(seen, asking)
    scores[(sides <= 0).any(1)] = -1  # outside the picture
    choice = choose(scores, asking.phrases, asking.ontology, threshold=asking.threshold)
    alone: list[int] = []
    for place in range(len(choice.answers)):
        rivals = [p for p in alone if choice.categories[p] == choice.categories[place]]
        mine = boxes[choice.answers[place]][None]
        if not rivals or _iou(mine, boxes[choice.answers[rivals]]).max() < TWICE:
            alone.append(place)
    return Choice(
        choice.answers[alone], choice.categories[alone], choice.phrases[alone], choice.scores[alone]
    )


def _completed(seen: Detections, asking: TextRequest) -> Floats:
    """The scores without NaN."""
    scores = seen.scores.copy()
    unasked = np.isnan(scores)
    negative = [place for place, phrase in enumerate(asking.phrases) if phrase.negative]
    if negative and unasked[:, negative].any():
        near = _iou(seen.boxes_xyxy, seen.boxes_xyxy) >= SAME_PLACE
        for place in negative:
            known = np.where(unasked[:, place], -1.0, scores[:, place])
            there = np.where(near, known[None], -1.0).max(1)
            scores[:, place] = np.where(unasked[:, place], there, scores[:, place])
    return np.nan_to_num(scores, nan=-1.0)


def _iou(one: Floats, other: Floats) -> Floats:
    """n×m of n×4 and m×4 boxes."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    common = (high - low).clip(0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (one, other)]
    return common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-9)
