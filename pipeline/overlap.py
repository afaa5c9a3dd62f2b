"""Segments that overlap: painted over one another, or merged into a panoptic picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from schemas.categories import Categories
from schemas.records import Segment

from . import masks, rle


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


def merge_panoptic(
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
    faces = [*things, *(max(group, key=_score) for group in pieces)]
    if background is not None:
        faces.append(Segment(background, b"", 0, (0, 0, 0, 0)))
        label_map[label_map == 0] = len(faces)
    return _published(label_map, faces)


def _score(segment: Segment) -> float:
    return 1.0 if segment.score is None else segment.score


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
        for pair in sorted(part, key=lambda pair: -_score(pair[1]))
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
        for region in masks.regions(label_map)
    )
