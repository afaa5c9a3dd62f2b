"""Masks pasted through boxes: by hand, and beside torchvision's paste."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from random_outputs import smooth
from torchvision.models.detection.roi_heads import paste_masks_in_image

from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.maps import MaskStack
from pipeline.models.grids.outputs import BoxOutput
from pipeline.models.postprocess.boxes import in_picture, paste_instances
from pipeline.models.postprocess.encode import segments_of


def painted(stack: MaskStack) -> dict[int, np.ndarray]:
    """Label → H×W uint8."""
    count = int(stack.found.labels.max(initial=0)) + 1
    (segments,) = segments_of([stack], category_ids=range(1, count + 1))
    size = list(stack.picture_hw)
    return {
        one.category_id - 1: coco_mask.decode({"size": size, "counts": one.counts})
        for one in segments
    }


def detections(boxes: list[list[float]], masks: torch.Tensor, frame: Frame) -> BoxOutput:
    count = len(boxes)
    return BoxOutput(
        torch.tensor(boxes).reshape(-1, 4),
        torch.arange(count),
        torch.linspace(0.9, 0.6, count),
        masks,
        frame,
    )


def by_hand(
    box: list[float], mask: np.ndarray, hw: tuple[int, int], threshold: float
) -> np.ndarray:
    """H×W: the mask is a sheet stretched over the box, 0 from half a cell beyond its rim on."""
    framed = np.pad(mask.astype(np.float64), 1)
    size = len(mask)
    found = np.zeros(hw, np.uint8)
    for row in range(hw[0]):
        for column in range(hw[1]):
            v = (row + 0.5 - box[1]) / (box[3] - box[1]) * size + 0.5
            u = (column + 0.5 - box[0]) / (box[2] - box[0]) * size + 0.5
            v, u = min(max(v, 0.0), size + 1.0), min(max(u, 0.0), size + 1.0)
            y, x = min(int(v), size), min(int(u), size)
            b, a = v - y, u - x
            top = framed[y, x] * (1 - a) + framed[y, x + 1] * a
            low = framed[y + 1, x] * (1 - a) + framed[y + 1, x + 1] * a
            found[row, column] = top * (1 - b) + low * b > threshold
    return found


BOXES = [
    [3.3, 4.8, 20.1, 17.9],
    [0.0, 0.0, 8.2, 30.0],
    [-3.0, 20.0, 12.0, 45.0],
    [14.2, 9.1, 14.9, 9.7],
]


@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_pasted_to_fractions_of_a_pixel(threshold):
    hw = (37, 31)
    masks = smooth(np.random.default_rng(0), len(BOXES), (7, 7), 2.0).sigmoid()
    (stack,) = paste_instances(
        [detections(BOXES, masks, Frame(hw, hw, hw))], mask_threshold=threshold
    )
    found = painted(stack)
    for index, box in enumerate(BOXES):
        expected = by_hand(box, masks[index].numpy(), hw, threshold)
        assert np.array_equal(found.get(index, np.zeros(hw)), expected), index


def test_boxes_of_the_input_are_brought_to_the_picture():
    frame = Frame((100, 60), (50, 30), (64, 64), (4, 10))
    boxes = in_picture(np.array([[10.0, 4, 40, 54], [16, 9.5, 25, 29]]), frame)
    assert boxes.tolist() == [[0, 0, 60, 100], [12, 11, 30, 50]]
    full = torch.ones((1, 28, 28))
    (stack,) = paste_instances(
        [detections([[16.0, 9.0, 25.0, 29.0]], full, frame)], mask_threshold=0.5
    )
    (mask,) = painted(stack).values()
    expected = np.zeros((100, 60))
    expected[10:50, 12:30] = 1
    assert np.array_equal(mask, expected)


def test_torchvision_s_masks_differ_at_the_border_only():
    """It rounds boxes to whole pixels."""
    hw = (120, 160)
    rng = np.random.default_rng(4)
    corner = rng.uniform((5, 5), (90, 60), (12, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(12, 55, (12, 2))), axis=1)
    masks = (smooth(rng, 12, (28, 28), 3.0) + 1).sigmoid()
    output = detections(boxes.astype(np.float32).tolist(), masks, Frame(hw, hw, hw))
    (stack,) = paste_instances([output], mask_threshold=0.5)
    found = painted(stack)
    theirs = paste_masks_in_image(masks[:, None], output.boxes_xyxy, hw)[:, 0] > 0.5
    ring = np.ones((5, 5), np.uint8)
    for index, other in enumerate(theirs.numpy().astype(np.uint8)):
        border = cv2.dilate(other, ring) & ~cv2.erode(other, ring)
        differ = found[index] != other
        assert not (differ & ~border.astype(bool)).any()
        assert (found[index] & other).sum() / (found[index] | other).sum() > 0.85


def test_nothing_found_and_boxes_without_area():
    hw = (10, 12)
    frame = Frame(hw, hw, hw)
    empty = detections([], torch.zeros((0, 5, 5)), frame)
    flat = detections(
        [[3.0, 3.0, 3.0, 8.0], [50.0, 50.0, 60.0, 60.0]], torch.ones((2, 5, 5)), frame
    )
    for stack in paste_instances([empty, flat], mask_threshold=0.5):
        assert painted(stack) == {}
    assert paste_instances([], mask_threshold=0.5) == []


def test_order_scores_and_agreement_are_the_detections_own():
    hw = (20, 20)
    output = detections([[1.0, 1, 9, 9], [5, 5, 15, 15]], torch.ones((2, 3, 3)), Frame(hw, hw, hw))
    output = BoxOutput(
        output.boxes_xyxy, torch.tensor([4, 2]), output.scores, output.mask_probs, output.frame,
        agreement=torch.tensor([0.5, 1.0]),
    )  # fmt: skip
    (stack,) = paste_instances([output], mask_threshold=0.5)
    (segments,) = segments_of([stack], category_ids=range(1, 9))
    assert [(one.category_id, one.score, one.tta_agreement) for one in segments] == [
        (5, 0.9, 0.5),
        (3, 0.6, 1.0),
    ]
    assert [one.bbox_xywh for one in segments] == [(1, 1, 8, 8), (5, 5, 10, 10)]
