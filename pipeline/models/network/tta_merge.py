"""Several views' detections of one picture, made one set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_iou

from pipeline.models.grids.geometry import Axis, Frame
from pipeline.models.grids.outputs import BoxOutput, DenseOutput, QueryOutput

from .fit import View

# Regrid: what a network says on the grid of one view of a picture, on the grid of another.


def flipped_back(grid: Tensor, view: View) -> Tensor:
    """…×h×w as the picture lies, from what the network said of a mirrored one."""
    axes = [axis for axis, flipped in zip((-2, -1), view.flip_yx, strict=True) if flipped]
    return grid.flip(axes) if axes else grid


def regrid(grid: Tensor, frame: Frame, onto: Frame, onto_hw: tuple[int, int]) -> Tensor:
    """Reads a grid at the places in the picture where the cells of another grid are.

    Linear between the centres of cells, as `Frame.axes` has them; cells outside the picture get
    what its rim has. A grid that lies as wanted comes back as it is, to the last bit.

    Args:
        grid: …×h×w float, covers the whole input.
        frame: Of that input.
        onto: Another view's frame of the same picture.
        onto_hw: Cells of the other grid.

    Returns:
        …×`onto_hw`, float32 unless it is `grid` itself.
    """
    here_hw = (grid.shape[-2], grid.shape[-1])
    if here_hw == onto_hw and frame == onto:
        return grid
    values = grid.float()
    for side, dim in ((0, -2), (1, -1)):
        axis = _axis(frame, here_hw[side], onto, onto_hw[side], side)
        low, high, weight = (
            torch.from_numpy(each).to(grid.device) for each in (axis.low, axis.high, axis.weight)
        )
        shape = [-1, 1] if dim == -2 else [-1]
        values = torch.lerp(
            values.index_select(dim, low), values.index_select(dim, high), weight.view(shape)
        )
    return values


def _axis(frame: Frame, cells: int, onto: Frame, onto_cells: int, side: int) -> Axis:
    whole, content, start, pixels = _side(onto, side)
    cell = np.arange(onto_cells) + 0.5
    at = (cell * whole / onto_cells - start) * (pixels / content)  # pixels of the picture
    whole, content, start, pixels = _side(frame, side)
    ratio = cells / whole
    at = (at * (content / pixels) + start) * ratio - 0.5
    first, last = start * ratio, (start + content) * ratio - 1
    at = np.clip(at, min(first, cells - 1), max(last, first, 0))
    low = np.floor(at).astype(np.int32)
    high = np.minimum(low + 1, cells - 1).astype(np.int32)
    return Axis(low, high, (at - low).astype(np.float32))


def _side(frame: Frame, side: int) -> tuple[int, int, int, int]:
    return (
        frame.input_hw[side],
        frame.content_hw[side],
        frame.offset_yx[side],
        frame.picture_hw[side],
    )


# Several views' maps of one picture, made one.


class DenseMean:
    """Mean of the logits on the first view's grid. Keeps one sum, not every view's maps.

    A softmax of it is the geometric mean of the views' probabilities, made to add up to 1: a
    number that a view adds to all logits of a cell (the normaliser of a log-softmax is one) drops
    out, so logits need no normalising before. Outputs of probabilities give their mean.
    """

    def __init__(self) -> None:
        self._first: DenseOutput | None = None
        self._total = torch.empty(0)
        self._best: list[Tensor] = []

    def add(self, output: DenseOutput, view: View) -> None:
        """One view of the picture; the first one is the reference."""
        reference = self._first or output
        hw = (reference.logits.shape[-2], reference.logits.shape[-1])
        logits = regrid(flipped_back(output.logits, view), output.frame, reference.frame, hw)
        if self._first is None:
            self._first, self._total = output, logits.float().clone()
        else:
            self._total += logits
        self._best.append(_best(logits))

    def result(self) -> DenseOutput:
        """`agreement` is the share of the views whose best category in a cell is the merged one.

        Raises:
            ValueError: No view was added.
        """
        if self._first is None:
            raise ValueError("no view to take the mean of")
        winner = _best(self._total)
        agreeing = sum((best == winner).to(torch.float32) for best in self._best)
        return DenseOutput(
            logits=self._total / len(self._best),
            frame=self._first.frame,
            probabilities=self._first.probabilities,
            agreement=torch.as_tensor(agreeing) / len(self._best),
        )


def _best(logits: Tensor) -> Tensor:
    return logits.argmax(0).to(torch.int16)


# Several views' queries of one picture, made one view's.

MIN_OVERLAP = 0.5
"""Least overlap of two queries' masks that may be one segment; no mask overlaps two so much."""


def average_queries(outputs: Sequence[QueryOutput], views: Sequence[View]) -> QueryOutput:
    """The first view's queries, each averaged with its partner in every other view.

    Partners are found one to one, so that the sum over pairs of mask overlap × likeness of the
    categories is largest (the Hungarian method). Mask logits are averaged, and category
    probabilities. A query without partner in a view stays what it is without that view.

    Args:
        outputs: Of the same picture, one a view.
        views: How each was looked at.

    Returns:
        Queries and grid of the first output. `agreement` of a query is the mean over the views of
        the overlap of the view's mask with the merged one; 0 for a view that has no partner, or
        one of another category.
    """
    reference = outputs[0]
    hw = (reference.mask_logits.shape[-2], reference.mask_logits.shape[-1])
    logits, shares = _read(reference, reference, views[0], hw)
    count = torch.ones(len(shares), device=shares.device)
    total_logits, total_shares = logits.clone(), shares.clone()
    partners: list[tuple[Tensor, Tensor, Tensor]] = []
    for output, view in zip(outputs[1:], views[1:], strict=True):
        other_logits, other_shares = _read(output, reference, view, hw)
        mine, theirs = _pairs((logits, shares), (other_logits, other_shares))
        total_logits[mine] += other_logits[theirs]
        total_shares[mine] += other_shares[theirs]
        count[mine] += 1
        partners.append((mine, other_logits[theirs], other_shares[theirs]))
    total_logits /= count[:, None]
    total_shares /= count[:, None]
    masks = total_logits.sigmoid()
    best = _category(total_shares)
    agreement = torch.zeros_like(count)
    everyone = torch.arange(len(shares), device=shares.device)
    for mine, other_logits, other_shares in [(everyone, logits, shares), *partners]:
        like = _category(other_shares) == best[mine]
        agreement[mine] += like * _overlap(other_logits.sigmoid(), masks[mine])
    return QueryOutput(
        class_logits=total_shares.clamp(min=torch.finfo(torch.float32).tiny).log(),
        mask_logits=total_logits.view(-1, *hw),
        frame=reference.frame,
        agreement=(agreement / len(outputs)).clamp(0, 1),
    )


def _read(
    output: QueryOutput, reference: QueryOutput, view: View, hw: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Q×(h·w) mask logits on the reference's grid, and Q×(C+1) probabilities; float32."""
    masks = regrid(flipped_back(output.mask_logits, view), output.frame, reference.frame, hw)
    return masks.float().flatten(1), output.class_logits.float().softmax(-1)


def _category(shares: Tensor) -> Tensor:
    """Q int, the best category; "nothing" is none."""
    return shares[:, :-1].argmax(1)


def _pairs(mine: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Indices of the queries here and there that are partners."""
    here, there = mine[0].sigmoid(), theirs[0].sigmoid()
    both = here @ there.T
    squares = here.square().sum(1)[:, None] + there.square().sum(1)[None]
    overlap = both / (squares - both).clamp(min=1e-12)
    likeness = mine[1].sqrt() @ theirs[1].sqrt().T  # Bhattacharyya's coefficient
    overlap, likeness = overlap.cpu(), likeness.cpu()
    rows, columns = linear_sum_assignment((overlap * likeness).numpy(), maximize=True)
    rows, columns = torch.from_numpy(rows), torch.from_numpy(columns)
    near = overlap[rows, columns] >= MIN_OVERLAP
    device = mine[0].device
    return rows[near].to(device), columns[near].to(device)


def _overlap(masks: Tensor, others: Tensor) -> Tensor:
    """Q float: IoU of soft masks, a·b / (a·a + b·b − a·b) (Tanimoto); 1 for equal ones."""
    both = (masks * others).sum(1)
    return both / (masks.square().sum(1) + others.square().sum(1) - both).clamp(min=1e-12)


MIN_IOU = 0.5
"""Of the boxes of one object in two views."""


def average_boxes(outputs: Sequence[BoxOutput], views: Sequence[View]) -> BoxOutput:
    """Detections of one category that are one object, averaged over the views that see it.

    Objects are found again one to one, so that the sum of the boxes' IoU is largest (the Hungarian
    method). What the first view does not see is kept where at least half of the views see it.

    Args:
        outputs: Of the same picture, one a view.
        views: How each was looked at.

    Returns:
        Boxes in the first output's input, by falling score. `agreement` of a detection is the mean
        over the views of the IoU of the view's box with the merged one; 0 where a view lacks it.
    """
    frame = outputs[0].frame
    found = [_upright(output, view, frame) for output, view in zip(outputs, views, strict=True)]
    objects, labels = _objects(found)
    count = _sums([torch.ones_like(one.scores) for one in found], objects, len(labels))
    scores = _sums([one.scores for one in found], objects, len(labels)) / count
    boxes = _sums([one.boxes_xyxy for one in found], objects, len(labels)) / count[:, None]
    masks = _sums([one.mask_probs for one in found], objects, len(labels)) / count[:, None, None]
    overlaps = [
        box_iou(one.boxes_xyxy, boxes[index]).diagonal()
        for one, index in zip(found, objects, strict=True)
    ]
    agreement = _sums(overlaps, objects, len(labels)) / len(found)
    seen = torch.arange(len(labels), device=count.device) < len(found[0].labels)
    kept = (seen | (2 * count >= len(found))).nonzero()[:, 0]
    order = kept[scores[kept].argsort(descending=True, stable=True)]
    return BoxOutput(
        boxes_xyxy=boxes[order],
        labels=labels[order],
        scores=scores[order],
        mask_probs=masks[order],
        frame=frame,
        agreement=agreement[order].clamp(0, 1),
    )


def _upright(output: BoxOutput, view: View, onto: Frame) -> BoxOutput:
    """As the picture lies, boxes in the input of another view."""
    corners = output.boxes_xyxy.float().view(-1, 2, 2).flip(-1)  # N × (first, last) × (y, x)
    frame = output.frame
    for side, flipped in enumerate(view.flip_yx):
        if flipped:
            corners[..., side] = frame.input_hw[side] - corners[..., side].flip(-1)
        back = frame.picture_hw[side] / frame.content_hw[side]
        forth = onto.content_hw[side] / onto.picture_hw[side]
        corners[..., side] -= frame.offset_yx[side]
        corners[..., side] *= back * forth
        corners[..., side] += onto.offset_yx[side]
    return replace(
        output,
        boxes_xyxy=corners.flip(-1).reshape(-1, 4),
        scores=output.scores.float(),
        mask_probs=flipped_back(output.mask_probs.float(), view),
    )


def _objects(found: Sequence[BoxOutput]) -> tuple[list[Tensor], Tensor]:
    """For each view the number of the object that each detection is; the objects' categories."""
    boxes, labels = found[0].boxes_xyxy, found[0].labels
    objects = [torch.arange(len(labels), device=labels.device)]
    for one in found[1:]:
        iou = box_iou(one.boxes_xyxy, boxes)
        iou = torch.where(one.labels[:, None] == labels, iou, 0).cpu()
        rows, columns = map(torch.from_numpy, linear_sum_assignment(iou.numpy(), maximize=True))
        near = iou[rows, columns] >= MIN_IOU
        index = torch.full((len(one.labels),), -1)
        index[rows[near]] = columns[near]
        new = index < 0
        index[new] = torch.arange(len(labels), len(labels) + int(new.sum()))
        objects.append(index.to(labels.device))
        new = new.to(labels.device)
        boxes = torch.cat([boxes, one.boxes_xyxy[new]])
        labels = torch.cat([labels, one.labels[new]])
    return objects, labels


def _sums(values: Sequence[Tensor], objects: Sequence[Tensor], n: int) -> Tensor:
    """n×…: of all views' values of an object."""
    total = values[0].new_zeros(n, *values[0].shape[1:])
    for each, index in zip(values, objects, strict=True):
        total[index] += each  # an object is in a view once
    return total
