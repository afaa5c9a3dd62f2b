"""Boundary IoU and the AP that it makes: Cheng et al., "Boundary IoU: Improving Object-Centric
Image Segmentation Evaluation", CVPR 2021 (code: bowenc0221/boundary-iou-api).

Let G and P be two masks and G_d, P_d the pixels of each that lie within d pixels of its contour,
where the picture's rim is contour, too. Then

    Boundary IoU = |G_d ∩ P_d| / |G_d ∪ P_d|,

with d = 2 % of the picture's diagonal, rounded, at least 1. G_d is G without its erosion by a
square of (2d + 1)² pixels. Where mask IoU grows blind to a contour as objects grow, this does not;
as it also rates the rim alone, the paper's AP takes min(mask IoU, Boundary IoU) for the IoU of a
pair and counts like COCO's AP for the rest.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from pipeline.evaluation.sources.categories import Table
from pipeline.evaluation.sources.source import Floats, Ints

from .coco_ap import CocoAp
from .matching import assign
from .metric import Figures, ratio
from .overlay import Comparison, overlay
from .stack import Stack

DILATION_RATIO = 0.02
"""Of the picture's diagonal."""


class BoundaryAp:
    """AP and AR by min(mask IoU, Boundary IoU), and the mean Boundary IoU of matched pairs.

    Args:
        categories: The common table; its things are the objects.
    """

    def __init__(self, categories: Table) -> None:
        self._ap = CocoAp(categories)
        self._pairs = 0
        self._sums = np.zeros(2)

    def add(self, images: Comparison) -> None:
        """Takes the objects of some images into account."""
        boundary, of_crowd = boundary_iou(images)
        self._ap.add(images, most=np.where(_crowded(images), of_crowd, boundary))
        truth, predicted = images.truth, images.predicted
        g, d = images.truth_index, images.predicted_index
        same = truth.category_ids[g] == predicted.category_ids[d]
        near = np.flatnonzero(same & ~truth.iscrowd[g] & (2 * images.iou() >= 1))
        chosen = near[assign(g[near], d[near], images.iou()[near])]
        self._pairs += len(chosen)
        self._sums += images.iou()[chosen].sum(), boundary[chosen].sum()

    def merge(self, other: BoundaryAp) -> None:
        """Adds what `other` has seen of the images that follow."""
        self._ap.merge(other._ap)
        self._pairs += other._pairs
        self._sums += other._sums

    def figures(self) -> Figures:
        """The twelve figures for both limits, and means over the pairs of mask IoU ≥ 0.5."""
        figures = self._ap.figures()
        pairs: dict[str, Any] = {
            "count": self._pairs,
            "mean_iou": ratio(self._sums[0], self._pairs),
            "mean_boundary_iou": ratio(self._sums[1], self._pairs),
        }
        return Figures({**figures.overall, "pairs": pairs}, figures.per_category)


def boundary_iou(images: Comparison) -> tuple[Floats, Floats]:
    """Boundary IoU of pairs of masks.

    Returns:
        p values 0…1 for the pairs of `images`, and p quotients of the shared boundary and the
        prediction's alone, which is what counts against a crowd.
    """
    sides = [boundaries(images, side) for side in (images.truth, images.predicted)]
    rims = overlay(images.images, *sides)
    m = max(len(images.predicted), 1)
    here = images.truth_index * m + images.predicted_index
    there = rims.truth_index * m + rims.predicted_index
    order = np.argsort(there)
    place = np.minimum(np.searchsorted(there[order], here), max(len(there) - 1, 0))
    shared = np.zeros(len(here))
    if len(there):
        at = order[place]
        shared = np.where(there[at] == here, rims.shared[at], 0)
    a, b = rims.truth_areas[images.truth_index], rims.predicted_areas[images.predicted_index]
    return shared / (a + b - shared), shared / b


def boundaries(images: Comparison, side: Stack) -> Stack:
    """Every mask without what lies more than d pixels from its contour.

    Args:
        images: Whose pictures.
        side: n segments.
    """
    owners, starts, ends = [], [], []
    order = np.argsort(side.owner, kind="stable")
    bounds = np.searchsorted(side.owner[order], np.arange(len(side) + 1)).tolist()
    for n in range(len(side)):
        rows = order[bounds[n] : bounds[n + 1]]
        if not len(rows):
            continue
        k = int(side.image[n])
        image, offset = images.images[k], int(side.offset[k])
        first, end = _rim(
            side.starts[rows] - offset, side.ends[rows] - offset, image.height, image.width
        )
        owners.append(np.full(len(first), n))
        starts.append(first + offset)
        ends.append(end + offset)
    none = np.zeros(0, np.int64)
    owner, start, end = (np.concatenate([none, *parts]) for parts in (owners, starts, ends))
    return replace(side, owner=owner, starts=start, ends=end, counts=())


def _rim(starts: Ints, ends: Ints, height: int, width: int) -> tuple[Ints, Ints]:
    """Column-major runs of the boundary of one mask, given its runs."""
    reach = max(round(DILATION_RATIO * float(np.sqrt(height**2 + width**2))), 1)
    left, right = int(starts.min()) // height, (int(ends.max()) - 1) // height + 1
    # Columns of the mask as rows of an array: what lies beyond them is outside.
    flat = np.zeros((right - left) * height + 1, np.int8)
    np.add.at(flat, starts - left * height, 1)
    np.add.at(flat, ends - left * height, -1)
    mask = np.cumsum(flat[:-1], dtype=np.int8).view(np.uint8).reshape(right - left, height)
    rows = np.flatnonzero(mask.any(0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    window = np.ascontiguousarray(mask[:, top:bottom])
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    inner = cv2.erode(window, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    mask = np.zeros_like(mask)
    mask[:, top:bottom] = window - inner
    line = np.concatenate(([0], mask.reshape(-1), [0])).astype(np.int8)
    edges = np.flatnonzero(np.diff(line)) + left * height
    return edges[0::2], edges[1::2]


def _crowded(images: Comparison) -> np.ndarray:
    return images.truth.iscrowd[images.truth_index]
