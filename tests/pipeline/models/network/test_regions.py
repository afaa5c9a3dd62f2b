"""Mask R-CNN for a whole batch: what torchvision's own heads give picture by picture."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import torch
from tiny_checkpoints import root
from tiny_torchvision import tiny_maskrcnn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import nms

from pipeline.models.checkpoints.info import describe
from pipeline.models.checkpoints.torchvision_files import load_torchvision
from pipeline.models.maskrcnn import cast_but_boxes
from pipeline.models.network.regions import LeanRegions, moved_boxes, survivors
from pipeline.models.network.weights import fold_batch_norms

SIZES = [(96, 120), (90, 128), (64, 70)]


@cache
def nets() -> tuple[Any, Any]:
    """torchvision's own, and the same folded."""
    info = describe(str(tiny_maskrcnn(root() / "maskrcnn-regions")))
    theirs, ours = (load_torchvision(info).eval().requires_grad_(False) for _ in range(2))
    fold_batch_norms(ours)
    for net in (theirs, ours):
        net.roi_heads.score_thresh = 0.05
    return theirs, ours


def batch() -> torch.Tensor:
    torch.manual_seed(1)
    pixels = torch.zeros(len(SIZES), 3, 96, 128)
    for one, (height, width) in zip(pixels, SIZES, strict=True):
        one[:, :height, :width] = torch.randn(3, height, width)
    return pixels


def test_detections_are_torchvisions():
    theirs, ours = nets()
    pixels = batch()
    with torch.inference_mode():
        features = theirs.backbone(pixels)
        proposals, _ = theirs.rpn(ImageList(pixels, SIZES), features)
        wanted, _ = theirs.roi_heads(features, proposals, SIZES)
        lean = LeanRegions(ours)
        found, sound = lean.detect(lean.propose(pixels), SIZES)
    assert bool(sound)
    assert sum(len(one["boxes"]) for one in wanted) > 20
    for one, other in zip(found, wanted, strict=True):
        assert one["labels"].tolist() == other["labels"].tolist()
        torch.testing.assert_close(one["boxes"], other["boxes"], rtol=0, atol=1e-2)
        torch.testing.assert_close(one["scores"], other["scores"], rtol=0, atol=1e-3)
        assert (one["masks"] - other["masks"]).abs().mean() < 1e-3


def test_a_batch_in_which_nothing_is_found_is_empty():
    _, ours = nets()
    lean = LeanRegions(ours)
    ours.roi_heads.score_thresh = 2.0
    try:
        with torch.inference_mode():
            found, sound = lean.detect(lean.propose(batch()), SIZES)
    finally:
        ours.roi_heads.score_thresh = 0.05
    assert bool(sound)
    assert [len(one["boxes"]) for one in found] == [0, 0, 0]


def test_nan_is_told():
    _, ours = nets()
    pixels = batch()
    pixels[1, 0, 5, 5] = float("nan")
    lean = LeanRegions(ours)
    with torch.inference_mode():
        _, sound = lean.detect(lean.propose(pixels), SIZES)
    assert not bool(sound)


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_survivors_of_each_group_are_torchvisions(threshold: float):
    torch.manual_seed(0)
    corners = torch.rand(3, 40, 2) * 40
    boxes = torch.cat((corners, corners + torch.rand(3, 40, 2) * 30), 2)
    present = torch.rand(3, 40) > 0.3
    kept = survivors(boxes, present, threshold)
    falling = torch.arange(40, 0, -1).float()
    for own, there, found in zip(boxes, present, kept, strict=True):
        assert not (found & ~there).any()
        wanted = there.nonzero()[:, 0][nms(own[there], falling[there], threshold)]
        assert found.nonzero()[:, 0].tolist() == sorted(wanted.tolist())


def test_boxes_move_as_torchvisions_coder_says():
    coder = nets()[0].roi_heads.box_coder
    boxes = torch.tensor([[3.0, 4.0, 30.0, 44.0], [0.0, 0.0, 8.0, 2.0]])
    deltas = torch.tensor([[0.5, -1.0, 0.3, 30.0], [0.0, 0.0, -2.0, 0.1]])
    torch.testing.assert_close(
        moved_boxes(boxes, deltas, coder), coder.decode_single(deltas, boxes)
    )


def test_in_the_precision_of_a_gpu_boxes_are_the_same_but_for_rounding():
    _, ours = nets()
    lowered = deepcopy(ours)
    cast_but_boxes(lowered, torch.bfloat16)
    pixels = batch()
    with torch.inference_mode():
        one, other = LeanRegions(ours), LeanRegions(lowered)
        *maps, boxes, logits = one.propose(pixels)
        *low, low_boxes, low_logits = other.propose(pixels.bfloat16())
        found, sound = other.detect((*low, low_boxes, low_logits), SIZES)
    assert {each.dtype for each in (boxes, logits, low_boxes, low_logits)} == {torch.float32}
    assert {each.dtype for each in low} == {torch.bfloat16}
    assert bool(sound)
    for each, plain in zip(low, maps, strict=True):
        assert (each.float() - plain).norm() / plain.norm() < 0.03
    assert sum(len(each["boxes"]) for each in found) > 20
    assert all(each["boxes"].dtype == torch.float32 for each in found)
