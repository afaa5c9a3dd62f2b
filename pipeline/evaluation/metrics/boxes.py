"""Boxes of the same images laid over each other, as pycocotools' `bbIou` does it.

IoU = w·h / (a + b − w·h), where w and h are the overlaps along x and y, and a and b the areas of
the boxes, in floating-point pixels; see `common/maskApi.c` of cocodataset/cocoapi.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.evaluation.sources.source import Floats, Segments

from .overlay import ComparedImage, Comparison
from .stack import Stack, stack


def box_stack(images: Sequence[Segments], names: Sequence[str]) -> Stack:
    """Lays images end to end, with boxes instead of masks.

    Segments that have masks get their masks' tight boxes, and the masks' areas where the file
    states none.

    Args:
        images: k images' segments.
        names: Of the images, for messages.

    Raises:
        ValueError: A mask's string is malformed or belongs to another picture size.
    """
    if all(item.boxes is None for item in images):
        laid = stack(images, names)
        areas = laid.areas().astype(np.float64)
        stated = np.where(np.isnan(laid.coco_areas), areas, laid.coco_areas)
        return replace(laid, coco_areas=stated, boxes=_tight(laid, images))
    bare = [replace(item, counts=()) for item in images]
    flat = [np.zeros((0, 4)) if item.boxes is None else item.boxes for item in images]
    return replace(stack(bare, names, masks=False), boxes=np.concatenate([*flat]))


def box_overlay(images: Sequence[ComparedImage], truth: Stack, predicted: Stack) -> Comparison:
    """Measures how the boxes of both sides overlap; pixels outside of all are not known.

    Args:
        images: The k images.
        truth: Their true segments, with boxes.
        predicted: Their predicted segments, with boxes.
    """
    a, b = _boxes(truth), _boxes(predicted)
    bounds = [
        np.searchsorted(side.image, np.arange(len(images) + 1)).tolist()
        for side in (truth, predicted)
    ]
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for i in range(len(images)):
        g, d = (slice(side[i], side[i + 1]) for side in bounds)
        left, right = a[g, None, :], b[None, d, :]
        width, height = (
            np.minimum(left[..., k + 2] + left[..., k], right[..., k + 2] + right[..., k])
            - np.maximum(left[..., k], right[..., k])
            for k in (0, 1)
        )
        row, column = np.nonzero((width > 0) & (height > 0))
        shared = width[row, column] * height[row, column]
        found.append((row + g.start, column + d.start, shared))
    g, d, shared = (np.concatenate([part[k] for part in found]) for k in range(3))
    return Comparison(
        images=tuple(images),
        truth=truth,
        predicted=predicted,
        truth_index=g.astype(np.int64),
        predicted_index=d.astype(np.int64),
        shared=shared,
        truth_areas=a[:, 2] * a[:, 3],
        predicted_areas=b[:, 2] * b[:, 3],
        outside=np.zeros(len(b), np.int64),
    )


def _boxes(side: Stack) -> Floats:
    return np.zeros((0, 4)) if side.boxes is None else side.boxes


def _tight(laid: Stack, images: Sequence[Segments]) -> Floats:
    """Tight boxes of masks, n×4; zeros for a mask without a pixel."""
    boxes = np.zeros((len(laid), 4))
    if not len(laid.owner):
        return boxes
    image = laid.image[laid.owner]
    height = np.array([item.height for item in images], np.int64)[image]
    left, top = np.divmod(laid.starts - laid.offset[image], height)
    right, bottom = np.divmod(laid.ends - 1 - laid.offset[image], height)
    wraps = right > left  # a run over a column's foot touches both edges
    top[wraps], bottom[wraps] = 0, height[wraps] - 1
    first = np.flatnonzero(np.append(True, np.diff(laid.owner) != 0))
    x, y = np.minimum.reduceat(left, first), np.minimum.reduceat(top, first)
    w = np.maximum.reduceat(right, first) - x + 1
    h = np.maximum.reduceat(bottom, first) - y + 1
    boxes[laid.owner[first]] = np.stack((x, y, w, h), axis=1)
    return boxes
