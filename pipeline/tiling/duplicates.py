"""Duplicates: masks of a stitched picture that say again what another one says.

Segment-anything suppresses once more when it puts its crops together (`crop_nms_thresh`); tiles
need that, too. Masks are compared, not boxes, which miss pairs with stray pixels
(facebookresearch/segment-anything issue 199).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.masks import codec
from schemas.records import Segment

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


NEAR = 20
"""Pixels within which a box counts as touching an edge of its tile, as segment-anything has it."""

_ALIKE = 0.5
"""Share of the larger mask's area from which on one inside it may be the same object; a car on a
road is none of it."""


@dataclass(frozen=True, slots=True)
class DuplicateRule:
    """When of two masks of one picture the weaker goes.

    Attributes:
        iou: They share more than this, intersection over union.
        inside: The smaller lies in the larger by at least this share of its area, and is a
            fragment, or another tile's view of the same object.
        across_categories: Also between categories.
    """

    iou: float
    inside: float = 0.9
    across_categories: bool = False


def duplicates(
    segments: Sequence[Segment],
    rule: DuplicateRule,
    height: int,
    width: int,
    *,
    fragment: Flags,
    tile: Ints,
) -> Flags:
    """Which masks go: greedy, fragments last, then by score, then in their order.

    Args:
        segments: n of one picture; may overlap.
        rule: When a mask goes.
        height: Of the picture, pixels.
        width: Of the same.
        fragment: n flags: all that is known of a mask touches an edge of its tile.
        tile: n, the tile that saw each mask; a number of its own for one that several saw.

    Returns:
        n flags.
    """
    score = np.array([1.0 if one.score is None else one.score for one in segments])
    rank = np.empty(len(segments), np.int64)
    rank[np.lexsort((-score, fragment))] = np.arange(len(segments))
    area = np.array([one.area for one in segments], np.int64)
    beaten: dict[int, list[int]] = {}
    for one, others, common in _shared(segments, rule, height, width):
        same = common > rule.iou * (area[one] + area[others] - common)
        small = np.where(area[others] < area[one], others, one)
        large = np.where(area[others] < area[one], one, others)
        alike = (tile[small] != tile[large]) & (area[small] >= _ALIKE * area[large])
        held = common >= rule.inside * area[small]
        held &= (area[small] < area[large]) & (fragment[small] | alike)
        first = rank[others] < rank[one]
        strong = np.where(held, large, np.where(first, others, one))
        weak = np.where(held, small, np.where(first, one, others))
        for place in np.flatnonzero(same | held).tolist():
            beaten.setdefault(int(strong[place]), []).append(int(weak[place]))
    gone = np.zeros(len(segments), np.bool_)
    for index in np.argsort(rank).tolist():
        if not gone[index]:
            gone[beaten.get(index, [])] = True
    return gone


def _shared(
    segments: Sequence[Segment], rule: DuplicateRule, height: int, width: int
) -> Iterator[tuple[int, Ints, Ints]]:
    """Each mask with those whose box meets its own and begins no further left; pixels in common.

    Boxes are walked from left to right, so that a picture with a hundred thousand masks is not
    compared pair by pair.
    """
    boxes = np.array([one.bbox_xywh for one in segments], np.int64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    category = np.array([one.category_id for one in segments], np.int64)
    area = np.array([one.area for one in segments], np.int64)
    order = np.lexsort((np.arange(len(boxes)), boxes[:, 0]))
    left = boxes[order, 0]
    for place, one in enumerate(order.tolist()):
        stop = int(np.searchsorted(left, boxes[one, 2]))
        others = order[place + 1 : stop]
        near, far = (
            np.maximum(boxes[one, :2], boxes[others, :2]),
            np.minimum(boxes[one, 2:], boxes[others, 2:]),
        )
        most = np.prod(np.maximum(far - near, 0), axis=1)
        least = np.minimum(area[one], area[others]) * min(rule.iou, rule.inside)
        chosen = others[(most >= least) & (most > 0)]
        if not rule.across_categories:
            chosen = chosen[category[chosen] == category[one]]
        if len(chosen):
            texts = [segments[other].counts for other in chosen.tolist()]
            # Against a crowd pycocotools divides by the area of the first mask alone.
            share = codec.iou(texts, [segments[one].counts], height, width, iscrowd=[1])
            yield one, chosen, np.rint(share[:, 0] * area[chosen]).astype(np.int64)
