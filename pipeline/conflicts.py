"""Masks that claim the same thing: suppression in mask space, and one owner a pixel.

Boxes overlap where objects do not (a fence and the dog behind it), so everything here compares
masks. Intersections come from the run lengths; no mask is decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from schemas.prompt_config import ConflictsConfig
from schemas.records import Segment

from . import masks, overlap


def resolve(
    segments: Sequence[Segment], config: ConflictsConfig, *, height: int, width: int
) -> tuple[Segment, ...]:
    """Drops masks that say again what a better one says; may then part the rest.

    Crowds are handed through and suppress nothing.

    Args:
        segments: Of one picture, in the order of their prompts or categories.
        config: Thresholds, and who has priority.
        height: Of the picture, pixels.
        width: Of the same.

    Returns:
        The survivors, in their order. With `non_overlap` every pixel belongs to one of them, and
        masks, areas and boxes are new.

    Raises:
        ValueError: A segment's RLE belongs to another picture size.
    """
    crowds = [index for index, segment in enumerate(segments) if segment.iscrowd]
    order = [index for index in _by_priority(segments, config) if not segments[index].iscrowd]
    kept = _suppress([segments[index] for index in order], config, height, width)
    winners = [order[place] for place in kept]
    if config.non_overlap:
        parted = _parted([segments[index] for index in winners], height, width)
        found = {index: part for index, part in zip(winners, parted, strict=True) if part}
        found.update({index: segments[index] for index in crowds})
        return tuple(found[index] for index in sorted(found))
    return tuple(segments[index] for index in sorted([*winners, *crowds]))


def overlaps(
    segments: Sequence[Segment], height: int, width: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """How much each pair of masks shares.

    Args:
        segments: n of one picture.
        height: Of the picture, pixels.
        width: Of the same.

    Returns:
        Two n×n matrices in 0…1: intersection over union, and intersection over the smaller area.
    """
    texts = [segment.counts for segment in segments]
    # Against a crowd pycocotools divides by the area of the first mask alone.
    share = masks.iou(texts, texts, height, width, iscrowd=[1] * len(texts))
    area = np.array([segment.area for segment in segments], np.float64)
    common = share * area[:, None]
    union = area[:, None] + area[None, :] - common
    smaller = np.minimum(area[:, None], area[None, :])
    return common / np.maximum(union, 1), common / np.maximum(smaller, 1)


def _by_priority(segments: Sequence[Segment], config: ConflictsConfig) -> list[int]:
    """Indices, the strongest first; equal ones in their order."""
    if config.priority == "order":
        rank = {id_: n for n, id_ in enumerate(dict.fromkeys(s.category_id for s in segments))}
        return sorted(
            range(len(segments)),
            key=lambda index: (rank[segments[index].category_id], -_score(segments[index])),
        )
    return sorted(range(len(segments)), key=lambda index: -_score(segments[index]))


def _suppress(
    segments: Sequence[Segment], config: ConflictsConfig, height: int, width: int
) -> list[int]:
    """Places in `segments` that stay: greedy, as non-maximum suppression is."""
    if config.nms_iou >= 1 and config.nms_ios >= 1:
        return list(range(len(segments)))
    iou, ios = overlaps(segments, height, width)
    rival = (iou > config.nms_iou) | (ios > config.nms_ios)
    if not config.across_categories:
        category = np.array([segment.category_id for segment in segments])
        rival &= category[:, None] == category[None, :]
    kept: list[int] = []
    gone = np.zeros(len(segments), bool)
    for place in range(len(segments)):
        if not gone[place]:
            kept.append(place)
            gone |= rival[place]
    return kept


def _parted(ranked: Sequence[Segment], height: int, width: int) -> list[Segment | None]:
    """Each segment without what those before it cover; None where nothing is left."""
    label_map = overlap.paint(ranked, height, width)
    parts: list[Segment | None] = [None] * len(ranked)
    for region in masks.regions(label_map):
        parts[region.label - 1] = replace(
            ranked[region.label - 1],
            counts=region.counts,
            area=region.area,
            bbox_xywh=region.bbox_xywh,
        )
    return parts


def _score(segment: Segment) -> float:
    return 1.0 if segment.score is None else segment.score
