"""Segments → a map of category indices, as a network learns it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline import masks
from pipeline.evaluation.segments import Segments

IGNORE = -1
"""Index of a pixel that teaches nothing."""

IndexMap = npt.NDArray[np.int16]


def paint(
    segments: Segments,
    index_of: Mapping[int, int],
    *,
    rest: int = IGNORE,
    crowds: bool = True,
    min_score: float = 0.0,
) -> IndexMap:
    """Draws all segments of an image, the smaller over the larger.

    Args:
        segments: Of one image.
        index_of: Category id → index.
        rest: Index of pixels without a segment.
        crowds: Whether a crowd is its category; else its pixels are ignored where no object is.
        min_score: Pixels of a segment with a lower score are ignored; without a score it is sure.

    Returns:
        HxW int16, `IGNORE` where nothing is to be learned.

    Raises:
        ValueError: A category that has no index, or a malformed mask.
    """
    height, width = segments.height, segments.width
    label_map = np.full((height, width), rest, np.int16)
    areas = np.array([masks.area(counts, height, width) for counts in segments.counts], np.int64)
    for number in np.lexsort((-areas, ~segments.iscrowd)).tolist():
        id_ = int(segments.category_ids[number])
        if id_ not in index_of:
            raise ValueError(f"category {id_} is not in the table of categories")
        index = index_of[id_]
        if segments.iscrowd[number] and not crowds:
            index = IGNORE
        if segments.scores[number] < min_score:  # never true of NaN
            index = IGNORE
        mask = masks.decode(segments.counts[number], height, width)
        label_map[mask.view(np.bool_)] = index
    return label_map
