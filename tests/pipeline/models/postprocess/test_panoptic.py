"""Our panoptic merge beside transformers' on the same logits, and where theirs is wrong."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_outputs import query_output
from transformers import Mask2FormerImageProcessor, OneFormerImageProcessor

from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.maps import LabelMap
from pipeline.models.grids.outputs import QueryOutput
from pipeline.models.postprocess.panoptic import merge_panoptic

LIMITS = {"threshold": 0.5, "mask_threshold": 0.5, "overlap_threshold": 0.8}
THING, STUFF = True, False


def theirs(processor: Any, output: QueryOutput, stuff: set[int], limits: dict[str, float]) -> Any:
    """transformers' answer for logits that already have the picture's size."""
    answer = SimpleNamespace(
        class_queries_logits=output.class_logits[None],
        masks_queries_logits=output.mask_logits[None],
    )
    (found,) = processor.post_process_panoptic_segmentation(
        None,
        answer,
        threshold=limits["threshold"],
        mask_threshold=limits["mask_threshold"],
        overlap_mask_area_threshold=limits["overlap_threshold"],
        label_ids_to_fuse=stuff,
    )
    return found["segmentation"].numpy(), found["segments_info"]


def fused_by_hand(
    segmentation: np.ndarray, info: list[dict[str, Any]], isthing: list[bool]
) -> tuple[np.ndarray, list[tuple[int, float]]]:
    """What transformers finds without fusing, with stuff fused as it should be."""
    labels = np.zeros(segmentation.shape, np.int64)
    entries: list[tuple[int, float]] = []
    stuff: dict[int, int] = {}
    for item in info:
        category, score = item["label_id"], item["score"]
        if category in stuff:
            number = stuff[category]
            entries[number - 1] = (category, max(entries[number - 1][1], score))
        else:
            entries.append((category, score))
            number = len(entries)
            if not isthing[category]:
                stuff[category] = number
        labels[segmentation == item["id"]] = number
    return labels, entries


def assert_equal(found: LabelMap, labels: np.ndarray, entries: list[tuple[int, float]]) -> None:
    assert found.found.labels.tolist() == [category for category, _ in entries]
    np.testing.assert_allclose(found.found.scores, [score for _, score in entries], atol=1e-6)
    assert np.array_equal(found.labels.numpy(), labels)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    hw=st.tuples(st.integers(2, 30), st.integers(2, 30)),
    rough=st.booleans(),
    threshold=st.sampled_from([0.3, 0.5, 0.8]),
    mask_threshold=st.sampled_from([0.2, 0.5, 0.7]),
    overlap_threshold=st.sampled_from([0.0, 0.3, 0.8, 1.2]),
    path=st.sampled_from(["cells", "plain"]),
)
def test_equal_to_transformers_on_random_logits(
    seed, hw, rough, threshold, mask_threshold, overlap_threshold, path
):
    output = query_output(seed, picture_hw=hw, grid_hw=hw, rough=rough)
    isthing = [True, True, False, False, True]
    limits = {
        "threshold": threshold,
        "mask_threshold": mask_threshold,
        "overlap_threshold": overlap_threshold,
    }
    (found,) = merge_panoptic([output], isthing=isthing, **limits, path=path)
    apart = theirs(OneFormerImageProcessor, output, set(), limits)
    labels, entries = fused_by_hand(*apart, isthing)
    assert_equal(found, labels, entries)
    segmentation, info = theirs(OneFormerImageProcessor, output, {2, 3}, limits)
    if info and len({item["id"] for item in info}) == len(info):  # nothing fused: no bug
        assert np.array_equal(found.labels.numpy(), segmentation)


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_mask2former_on_logits_of_384(seed):
    output = query_output(seed, picture_hw=(384, 384), grid_hw=(384, 384), queries=6)
    limits = LIMITS | {"overlap_threshold": 0.4}
    (found,) = merge_panoptic([output], isthing=[True] * 5, **limits)
    segmentation, info = theirs(Mask2FormerImageProcessor, output, set(), limits)
    assert info
    assert np.array_equal(found.labels.numpy(), segmentation)
    assert found.found.labels.tolist() == [item["label_id"] for item in info]


def bands(*categories: int, scores: list[float] | None = None) -> QueryOutput:
    """One query a band of four columns, from the left; 4 categories."""
    count = len(categories)
    hw = (6, 4 * count)
    masks = torch.full((count, *hw), -12.0)
    classes = torch.full((count, 5), -20.0)
    for index, category in enumerate(categories):
        masks[index, :, 4 * index : 4 * index + 4] = 12
        score = 0.9 if scores is None else scores[index]
        classes[index, category] = float(np.log(score))
        classes[index, -1] = float(np.log(1 - score))
    return QueryOutput(classes, masks, Frame(hw, hw, hw))


def test_numbers_never_repeat_after_a_fused_segment():
    """huggingface/transformers#23461: sky, person, sky, car gives 1, 2, 1, 2 there."""
    sky, person, car = 0, 1, 2
    output = bands(sky, person, sky, car)
    _, info = theirs(OneFormerImageProcessor, output, {sky}, LIMITS)
    assert [item["id"] for item in info] == [1, 2, 1, 2]  # the car became the person
    (found,) = merge_panoptic([output], isthing=[STUFF, THING, THING, THING], **LIMITS)
    assert found.found.labels.tolist() == [sky, person, car]
    assert found.labels[0].tolist() == [1] * 4 + [2] * 4 + [1] * 4 + [3] * 4


def test_stuff_is_always_fused_and_things_never():
    """By itself transformers fuses nothing."""
    output = bands(0, 0, 1, 1, scores=[0.7, 0.95, 0.8, 0.9])
    _, info = theirs(OneFormerImageProcessor, output, set(), LIMITS)
    assert len(info) == 4
    (found,) = merge_panoptic([output], isthing=[STUFF, THING, THING, THING], **LIMITS)
    assert found.found.labels.tolist() == [0, 1, 1]
    np.testing.assert_allclose(found.found.scores, [0.95, 0.8, 0.9], atol=1e-6)


def test_nothing_found_is_an_empty_map():
    """There it is full of −1, elsewhere nothing is 0."""
    output = bands(0, 1, scores=[0.3, 0.2])
    segmentation, info = theirs(OneFormerImageProcessor, output, set(), LIMITS)
    assert info == []
    assert (segmentation == -1).all()
    (found,) = merge_panoptic([output], isthing=[STUFF] * 4, **LIMITS)
    assert found.found.labels.tolist() == []
    assert found.labels.shape == output.frame.picture_hw
    assert not found.labels.any()


@pytest.mark.parametrize("path", ["cells", "plain"])
def test_a_query_that_is_mostly_hidden_leaves_its_pixels_to_nobody(path):
    output = bands(1, 2)
    masks = output.mask_logits.clone()
    masks[0] = 12  # it would own everything, but is less sure
    classes = output.class_logits.clone()
    classes[0, 1], classes[0, -1] = float(np.log(0.8)), float(np.log(0.2))
    (found,) = merge_panoptic(
        [QueryOutput(classes, masks, output.frame)], isthing=[THING] * 4, path=path, **LIMITS
    )
    assert found.found.labels.tolist() == [2]
    assert found.labels[0].tolist() == [0] * 4 + [1] * 4


def test_agreement_of_a_fused_segment_is_weighted_by_pixels():
    output = bands(0, 0, 1)
    masks = output.mask_logits.clone()
    masks[0, :, :6], masks[1, :, 4:6] = 12, -12  # 6 columns and 2
    agreeing = QueryOutput(
        output.class_logits, masks, output.frame, agreement=torch.tensor([1.0, 0.5, 0.25])
    )
    (found,) = merge_panoptic([agreeing], isthing=[STUFF, THING, THING, THING], **LIMITS)
    assert found.found.agreement is not None
    np.testing.assert_allclose(found.found.agreement, [(6 * 1 + 2 * 0.5) / 8, 0.25])


def test_a_batch_is_its_pictures():
    outputs = [
        query_output(seed, picture_hw=(20 + seed, 31), grid_hw=(5, 8), content=0.9)
        for seed in range(3)
    ]
    isthing = [True, False, True, False, True]
    together = merge_panoptic(outputs, isthing=isthing, **LIMITS)
    for output, found in zip(outputs, together, strict=True):
        (alone,) = merge_panoptic([output], isthing=isthing, **LIMITS)
        assert torch.equal(alone.labels, found.labels)
        assert (alone.found.scores == found.found.scores).all()
    assert merge_panoptic([], isthing=isthing, **LIMITS) == []


@pytest.mark.parametrize("path", ["cells", "plain"])
def test_columns_are_contiguous_and_many_queries_fit(path):
    hw = (1, 300)
    masks = torch.full((300, *hw), -12.0)
    masks[torch.arange(300), 0, torch.arange(300)] = 12
    classes = torch.full((300, 3), -9.0)
    classes[:, 0] = 9
    output = QueryOutput(classes, masks, Frame(hw, hw, hw))
    (found,) = merge_panoptic([output], isthing=[True, True], path=path, **LIMITS)
    assert found.labels[0].tolist() == list(range(1, 301))
    assert found.labels.T.is_contiguous()


def test_half_precision_outputs_are_merged_in_float32():
    output = query_output(4, picture_hw=(33, 40), grid_hw=(9, 10))
    half = QueryOutput(output.class_logits.half(), output.mask_logits.half(), output.frame)
    same = QueryOutput(half.class_logits.float(), half.mask_logits.float(), output.frame)
    isthing = [True] * 5
    (a,), (b,) = (merge_panoptic([each], isthing=isthing, **LIMITS) for each in (half, same))
    assert torch.equal(a.labels, b.labels)
    assert (a.found.scores == b.found.scores).all()
