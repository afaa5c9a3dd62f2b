"""Instances beside transformers' Mask2Former on logits that need no detour, and by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from random_outputs import query_output
from transformers import Mask2FormerImageProcessor

from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.maps import MaskStack
from pipeline.models.grids.outputs import QueryOutput, logit
from pipeline.models.grids.resample import columns_of
from pipeline.models.postprocess import instance as module
from pipeline.models.postprocess.encode import segments_of
from pipeline.models.postprocess.instance import merge_instance

LIMITS = {"threshold": 0.5, "mask_threshold": 0.5}


def masks_of(stack: MaskStack) -> np.ndarray:
    """n×H×W bool, of the entries that have pixels."""
    (segments,) = segments_of([stack], category_ids=range(1, 99))
    size = list(stack.picture_hw)
    return np.array(
        [coco_mask.decode({"size": size, "counts": one.counts}) for one in segments], np.bool_
    ).reshape(-1, *size)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.5, 0.1])
def test_equal_to_mask2former_on_logits_of_384(seed, threshold):
    """Their order is that of an unsorted top-k; masks, categories and scores are the same."""
    size = (384, 384)
    output = query_output(seed, picture_hw=size, grid_hw=size, queries=6, categories=4)
    (found,) = Mask2FormerImageProcessor.post_process_instance_segmentation(
        None,
        SimpleNamespace(
            class_queries_logits=output.class_logits[None],
            masks_queries_logits=output.mask_logits[None],
        ),
        threshold=threshold,
        return_binary_maps=True,
    )
    theirs = sorted(
        (item["label_id"], round(item["score"], 4), mask.numpy().astype(bool).tobytes())
        for item, mask in zip(found["segments_info"], found["segmentation"], strict=True)
    )
    (stack,) = merge_instance([output], isthing=[True] * 4, threshold=threshold, mask_threshold=0.5)
    ours = sorted(
        (label, round(score, 4), mask.tobytes())
        for label, score, mask in zip(
            stack.found.labels.tolist(), stack.found.scores.tolist(), masks_of(stack), strict=True
        )
    )
    assert len(ours) == len(theirs) > 0
    for mine, other in zip(ours, theirs, strict=True):
        assert mine[0] == other[0]
        assert mine[1] == pytest.approx(other[1], abs=2e-4)
        assert mine[2] == other[2]


@pytest.mark.parametrize("content", [1.0, 0.7])
@pytest.mark.parametrize("mask_threshold", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("rough", [False, True])
def test_masks_and_scores_are_those_of_the_resized_logits(content, mask_threshold, rough):
    output = query_output(
        5, picture_hw=(45, 38), grid_hw=(9, 11), content=content, rough=rough, queries=9
    )
    isthing = [True, False, True, True, True]
    (stack,) = merge_instance(
        [output], isthing=isthing, threshold=0.2, mask_threshold=mask_threshold
    )
    logits = torch.cat([part for _, part in columns_of(output.mask_logits, output.frame)], 1)
    logits = logits.transpose(1, 2)
    probability = output.class_logits.softmax(-1)[:, :-1]
    pairs = sorted((-probability[q, c].item(), q, c) for q in range(9) for c in range(5))[:9]
    expected = []
    for negative, query, category in pairs:
        inside = logits[query] > logit(mask_threshold)
        if isthing[category] and inside.any():
            score = -negative * logits[query].sigmoid()[inside].mean().item()
            if score >= 0.2:
                expected.append((category, score, inside.numpy()))
    assert len(expected) > 2
    assert stack.found.labels.tolist() == [category for category, _, _ in expected]
    np.testing.assert_allclose(stack.found.scores, [score for _, score, _ in expected], atol=1e-6)
    assert np.array_equal(masks_of(stack), [mask for _, _, mask in expected])


def one_query(*, masks: torch.Tensor, classes: list[list[float]]) -> QueryOutput:
    hw = (masks.shape[1], masks.shape[2])
    return QueryOutput(torch.tensor(classes).log(), masks, Frame(hw, hw, hw))


def test_one_query_gives_its_mask_to_every_category_that_is_sure_enough():
    """As in transformers: identical masks under several categories are kept."""
    masks = torch.full((2, 6, 6), -9.0)
    masks[0, 1:3], masks[1, 4:] = 9, 9
    output = one_query(masks=masks, classes=[[0.5, 0.45, 0.05], [0.05, 0.05, 0.9]])
    (stack,) = merge_instance([output], isthing=[True, True], threshold=0.3, mask_threshold=0.5)
    assert stack.found.labels.tolist() == [0, 1]
    assert stack.planes.tolist() == [0, 0]
    assert len(stack.boxes_xywh) == 1
    first, second = masks_of(stack)
    assert np.array_equal(first, second)


def test_masks_overlap_and_empty_ones_are_left_out():
    masks = torch.full((3, 6, 8), -9.0)
    masks[0, :4], masks[1, 2:] = 9, 9
    output = one_query(masks=masks, classes=[[0.9, 0.1], [0.8, 0.2], [0.99, 0.01]])
    (stack,) = merge_instance([output], isthing=[True], **LIMITS)
    assert len(stack.found.labels) == 2
    a, b = masks_of(stack)
    assert (a & b).sum() == 2 * 8
    assert stack.found.scores[0] > stack.found.scores[1]


def test_only_the_most_probable_pairs_are_looked_at():
    masks = torch.full((4, 3, 3), 9.0)
    output = one_query(masks=masks, classes=[[0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.8, 0.2]])
    (stack,) = merge_instance([output], isthing=[True], max_segments=2, **LIMITS)
    assert [round(score, 1) for score in stack.found.scores] == [0.9, 0.8]


@pytest.mark.parametrize(("mask_threshold", "area"), [(0.0, 9), (1.0, 0)])
def test_thresholds_of_0_and_1(mask_threshold, area):
    output = one_query(masks=torch.full((1, 3, 3), -9.0), classes=[[0.9, 0.1]])
    (stack,) = merge_instance(
        [output], isthing=[True], threshold=0.0, mask_threshold=mask_threshold
    )
    assert masks_of(stack).sum() == area


def test_a_mask_takes_its_own_rectangle_only():
    masks = torch.full((1, 50, 60), -9.0)
    masks[0, 10:14, 20:23] = 9
    output = one_query(masks=masks, classes=[[0.9, 0.1]])
    (stack,) = merge_instance([output], isthing=[True], **LIMITS)
    # Pixels that read a cell at all, were it with weight 0.
    assert stack.boxes_xywh.tolist() == [[19, 9, 4, 5]]
    assert len(stack.pixels) == 4 * 6 + 1
    assert masks_of(stack)[0].nonzero()[0].min() == 10


def test_strips_of_a_mask_give_the_same(monkeypatch):
    output = query_output(6, picture_hw=(40, 90), grid_hw=(10, 22))
    (whole,) = merge_instance([output], isthing=[True] * 5, **LIMITS)
    monkeypatch.setattr(module, "_STRIP", 100)
    (parts,) = merge_instance([output], isthing=[True] * 5, **LIMITS)
    assert torch.equal(whole.pixels, parts.pixels)
    np.testing.assert_allclose(whole.found.scores, parts.found.scores, atol=1e-12)


def test_agreement_is_the_query_s():
    masks = torch.full((2, 3, 3), 9.0)
    output = one_query(masks=masks, classes=[[0.6, 0.4], [0.9, 0.1]])
    output = QueryOutput(output.class_logits, masks, output.frame, torch.tensor([0.25, 0.75]))
    (stack,) = merge_instance([output], isthing=[True], **LIMITS)
    assert stack.found.agreement is not None
    assert stack.found.agreement.tolist() == [0.75, 0.25]


def test_nothing_found():
    output = one_query(masks=torch.full((1, 3, 3), 9.0), classes=[[0.2, 0.8]])
    (stack,) = merge_instance([output], isthing=[True], **LIMITS)
    assert masks_of(stack).shape == (0, 3, 3)
    assert merge_instance([], isthing=[True], **LIMITS) == []
