"""Segments that overlap: painted over one another, or merged into a panoptic picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from schemas.categories import Categories
from schemas.config.prompts import ConflictsConfig
from schemas.records import Segment

from . import codec, rle


def paint(segments: Sequence[Segment], height: int, width: int) -> npt.NDArray[np.int32]:
    """Paints segments over one another, the first of the sequence on top.

    Returns:
        HxW label map, C-contiguous: index in `segments` + 1, 0 where nothing is.

    Raises:
        ValueError: A segment's RLE belongs to another picture size.
    """
    canvas = np.zeros(height * width, np.int32)  # column-major, as runs are
    for label in range(len(segments), 0, -1):
        counts = segments[label - 1].counts
        for start, end in zip(*rle.runs_of_counts(rle.expand(counts, height * width)), strict=True):
            canvas[start:end] = label
    return np.ascontiguousarray(canvas.reshape(width, height).T)


def panoptic_of_segments(
    segments: Sequence[Segment],
    categories: Categories,
    height: int,
    width: int,
    *,
    min_area: int = 1,
) -> tuple[Segment, ...]:
    """Things and stuff as a panoptic segmentation: no overlap, one segment a stuff category.

    Things lie over stuff, and among equals the higher score wins, then the earlier segment. All
    pieces of a stuff category become one segment with the highest of their scores. Where the
    categories have a background, it takes every pixel that is left, small leftovers included.

    Args:
        segments: May overlap. Those of the background category are ignored: it is computed.
        categories: Of all segments.
        height: Of the picture, pixels.
        width: Of the picture, pixels.
        min_area: Smaller remains of a segment are dropped.

    Returns:
        Things in their order, then stuff by category id, then the background.

    Raises:
        ValueError: A segment's category is unknown, or its RLE belongs to another picture size.
    """
    known = categories.by_id()
    unknown = {segment.category_id for segment in segments} - known.keys()
    if unknown:
        raise ValueError(f"segments of unknown categories: {sorted(unknown)}")
    background = next((item.id for item in categories if item.is_background), None)
    things = [segment for segment in segments if known[segment.category_id].isthing]
    stuff = [
        segment
        for segment in segments
        if not known[segment.category_id].isthing and segment.category_id != background
    ]
    ids = sorted({segment.category_id for segment in stuff})
    pieces = [[piece for piece in stuff if piece.category_id == category] for category in ids]

    # Things are groups 1, 2, …, and each stuff category is one more.
    groups = list(enumerate(things, 1))
    groups += [(len(things) + 1 + ids.index(piece.category_id), piece) for piece in stuff]
    label_map = _paint_groups(groups, height, width, min_area, on_top=len(things))
    faces = [*things, *(max(group, key=lambda one: one.sure) for group in pieces)]
    if background is not None:
        faces.append(Segment(background, b"", 0, (0, 0, 0, 0)))
        label_map[label_map == 0] = len(faces)
    return _published(label_map, faces)


def _paint_groups(
    groups: Sequence[tuple[int, Segment]],
    height: int,
    width: int,
    min_area: int,
    *,
    on_top: int | None = None,
) -> npt.NDArray[np.int32]:
    """Paints segments by score and labels them with their groups; too small groups become 0.

    Args:
        groups: (group ≥ 1, segment) pairs.
        height: Of the picture, pixels.
        width: Of the picture, pixels.
        min_area: A group with fewer visible pixels vanishes.
        on_top: So many of the first pairs lie above the others whatever their score.
    """
    split = len(groups) if on_top is None else on_top
    order = [
        pair
        for part in (groups[:split], groups[split:])
        for pair in sorted(part, key=lambda pair: -pair[1].sure)
    ]
    label_map = paint([segment for _, segment in order], height, width)
    group_of = np.array([0, *(group for group, _ in order)], np.int32)
    label_map = group_of[label_map]
    areas = np.bincount(label_map.reshape(-1))
    label_map[(areas < min_area)[label_map]] = 0
    return label_map


def _published(label_map: npt.NDArray[np.int32], faces: Sequence[Segment]) -> tuple[Segment, ...]:
    """Segments as the label map shows them; label n has the category and score of faces[n − 1]."""
    return tuple(
        replace(
            faces[region.label - 1],
            counts=region.counts,
            area=region.area,
            bbox_xywh=region.bbox_xywh,
        )
        for region in codec.regions(label_map)
    )


# Masks that claim the same thing: suppression in mask space, and one owner a pixel.
#
# Boxes overlap where objects do not (a fence and the dog behind it), so everything here compares
# masks. Intersections come from the run lengths; no mask is decoded.


def resolve_overlaps(
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
    kept = nms([segments[index] for index in order], config, height, width)
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
    share = codec.iou(texts, texts, height, width, iscrowd=[1] * len(texts))
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
            key=lambda index: (rank[segments[index].category_id], -segments[index].sure),
        )
    return sorted(range(len(segments)), key=lambda index: -segments[index].sure)


def nms(segments: Sequence[Segment], config: ConflictsConfig, height: int, width: int) -> list[int]:
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
    label_map = paint(ranked, height, width)
    parts: list[Segment | None] = [None] * len(ranked)
    for region in codec.regions(label_map):
        parts[region.label - 1] = replace(
            ranked[region.label - 1],
            counts=region.counts,
            area=region.area,
            bbox_xywh=region.bbox_xywh,
        )
    return parts
