"""Several views' detections of one picture, made one set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_iou

from .fit import View
from .frame import Frame
from .outputs import BoxOutput
from .regrid import flipped_back

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
