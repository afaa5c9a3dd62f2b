"""Instances: the best pairs of query and category, each with the query's mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.models.grids.maps import (
    Floats,
    Found,
    Ints,
    MaskStack,
    Painted,
    boxes_of_cells,
    place_rectangles,
)
from pipeline.models.grids.outputs import QueryOutput, logit
from pipeline.models.grids.resample import axes_of, readings, window
from pipeline.models.grids.transfer import fetch

from .backend import Path, path_for

_STRIP = 1 << 22
"""Pixels of a mask at once."""


def merge_instance(
    outputs: Sequence[QueryOutput],
    *,
    isthing: Sequence[bool],
    threshold: float,
    mask_threshold: float,
    max_segments: int | None = None,
    path: Path | None = None,
) -> list[MaskStack]:
    """Decides as Mask2Former does (Cheng et al., CVPR 2022, "instance inference").

    Of all Q × C pairs of query and category the most probable are looked at, as many as there are
    queries; those of stuff are then left out. A mask is inside where its probability, interpolated
    as a logit, exceeds `mask_threshold`; a pair's score is the category's probability times the
    mean probability of the mask's pixels. Masks may overlap, and a query that answers as several
    categories gives its mask to each of them that reaches `threshold`, as in transformers.

    Where a model's categories are independent (RF-DETR), they are yes or no each, and a pair's
    score is the category's probability alone.

    transformers decides on 384×384 logits and enlarges the binary masks; here the logits are
    brought to the picture, and a mask without a pixel in it is left out.

    Args:
        outputs: One a picture, all of one model.
        isthing: Of each of the model's categories.
        threshold: Least score.
        mask_threshold: Probability that a mask's pixel must exceed.
        max_segments: Pairs that are looked at; None = as many as there are queries.
        path: How pixels are found; None = the fastest on the device. All give the same.

    Returns:
        One stack a picture: most probable category first, among equals the earlier query and
        category.
    """
    if not outputs:
        return []
    classes = torch.stack([one.class_logits for one in outputs]).float()
    alone = outputs[0].independent
    probabilities = fetch(classes.sigmoid()) if alone else fetch(classes.softmax(-1))[..., :-1]
    things = np.asarray(isthing, np.bool_)
    pairs = [_pairs(each, things, threshold, max_segments) for each in probabilities]
    cut = logit(mask_threshold)
    queries = [np.unique(each.queries) for each in pairs]
    if path_for(outputs[0].mask_logits.device, path) == "kernels":
        from pipeline.models.kernels.masks_launch import paint_queries

        painted = paint_queries(outputs, queries, cut)
    else:
        painted = [_painted(*each, cut) for each in zip(outputs, queries, strict=True)]
    return [
        _judged(*each, threshold) for each in zip(outputs, pairs, queries, painted, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Pairs:
    queries: Ints
    labels: Ints
    scores: Floats


def _pairs(
    probabilities: np.ndarray, things: np.ndarray, threshold: float, limit: int | None
) -> _Pairs:
    """Pairs that may reach the threshold, best first. A mask's mean is at most 1."""
    sure = np.flatnonzero(probabilities.max(-1) >= threshold)  # few: the rest is not looked at
    row, label = np.nonzero(probabilities[sure] >= threshold)
    query = sure[row]
    scores = probabilities[query, label]
    best = np.argsort(-scores, kind="stable")[: limit or len(probabilities)]
    best = best[things[label[best]]]
    return _Pairs(query[best], label[best], scores[best].astype(np.float64))


def _painted(output: QueryOutput, queries: Ints, cut: float) -> Painted:
    """The plain way, on any device."""
    maps = output.mask_logits[torch.from_numpy(queries).to(output.mask_logits.device)].float()
    grid = (maps.shape[1], maps.shape[2])
    cells = _cells_above(maps, cut)
    boxes = boxes_of_cells(cells, *axes_of(output.frame, grid))
    rectangles = place_rectangles(boxes, output.frame.picture_hw[0])
    y, x = readings(output.frame, grid, maps.device)
    pixels = torch.zeros(rectangles.size, dtype=torch.uint8, device=maps.device)
    areas = torch.zeros(len(maps), dtype=torch.int64, device=maps.device)
    sums = torch.zeros(len(maps), dtype=torch.float64, device=maps.device)
    for index, (left, top, width, height) in enumerate(boxes.tolist()):
        plane = rectangles.plane(pixels, index)
        step = max(1, _STRIP // max(1, height))
        for start in range(0, width, step):
            stop = min(start + step, width)
            values = window(
                maps[index], y.part(top, top + height), x.part(left + start, left + stop)
            )
            inside = values > cut
            plane[start:stop] = inside
            areas[index] += inside.sum()
            sums[index] += values.sigmoid_().mul_(inside).sum(dtype=torch.float64)
    return Painted(rectangles, pixels, areas.cpu().numpy(), sums.cpu().numpy())


def _cells_above(maps: Tensor, cut: float) -> Ints:
    """M×4 first column, first row, last column, last row of the cells above the cut."""
    above = maps > cut
    sides = [above.any(1), above.any(2)]
    cells = np.zeros((len(maps), 4), np.int64)
    for side, some in enumerate(each.cpu().numpy() for each in sides):
        none = ~some.any(1)
        cells[:, side] = some.argmax(1)
        cells[:, side + 2] = some.shape[1] - 1 - some[:, ::-1].argmax(1)
        cells[none, side + 2] = -1
    return cells


def _judged(
    output: QueryOutput, pairs: _Pairs, queries: Ints, painted: Painted, threshold: float
) -> MaskStack:
    plane = np.searchsorted(queries, pairs.queries)
    means = painted.sums / np.maximum(painted.areas, 1)
    scores = pairs.scores if output.independent else pairs.scores * means[plane]
    good = (scores >= threshold) & (painted.areas[plane] > 0)
    agreement = None
    if output.agreement is not None:
        agreement = output.agreement.double().cpu().numpy()[pairs.queries[good]]
    rectangles = painted.rectangles
    return MaskStack(
        picture_hw=output.frame.picture_hw,
        pixels=painted.pixels,
        offsets=rectangles.offsets,
        boxes_xywh=rectangles.boxes_xywh,
        strides=rectangles.strides,
        planes=plane[good],
        found=Found(pairs.labels[good], scores[good].clip(0, 1), agreement),
    )
