"""Suppression in mask space: against brute force on decoded masks."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.masks import codec
from pipeline.masks.overlap import overlaps, resolve_overlaps
from schemas.config.prompts import ConflictsConfig
from schemas.records import Segment

H, W = 12, 17
OFF = ConflictsConfig(nms_iou=1, nms_ios=1)


def segment(mask: np.ndarray, category: int = 1, score: float | None = 0.5, **more) -> Segment:
    counts = codec.encode(mask)
    box = codec.bbox_xywh(counts, *mask.shape)
    return Segment(category, counts, int(mask.sum()), box, score, **more)


def box(y: int, x: int, h: int, w: int) -> np.ndarray:
    mask = np.zeros((H, W), np.uint8)
    mask[y : y + h, x : x + w] = 1
    return mask


def pixels(found) -> list[np.ndarray]:
    return [codec.decode(s.counts, H, W).astype(bool) for s in found]


boxes = st.tuples(
    st.integers(0, H - 2), st.integers(0, W - 2), st.integers(1, H), st.integers(1, W)
)
some = st.lists(
    st.tuples(boxes, st.integers(1, 3), st.sampled_from([0.1, 0.5, 0.9, None])), max_size=7
)


def made(drawn) -> list[Segment]:
    return [segment(box(*b), category, score) for b, category, score in drawn]


@given(some)
def test_overlaps_are_those_of_the_pixels(drawn) -> None:
    found = made(drawn)
    iou, ios = overlaps(found, H, W)
    planes = pixels(found)
    for i, a in enumerate(planes):
        for j, b in enumerate(planes):
            common = (a & b).sum()
            assert iou[i, j] == pytest.approx(common / (a | b).sum())
            assert ios[i, j] == pytest.approx(common / min(a.sum(), b.sum()))


@given(some, st.sampled_from([0.3, 0.7]), st.booleans(), st.sampled_from(["score", "order"]))
@settings(max_examples=150)
def test_no_rivals_are_left_and_none_goes_without_a_stronger_one(drawn, limit, across, by) -> None:
    found = made(drawn)
    config = ConflictsConfig(nms_iou=limit, nms_ios=1, across_categories=across, priority=by)
    kept = resolve_overlaps(found, config, height=H, width=W)
    iou, _ = overlaps(found, H, W)
    first = {s.category_id: n for n, s in reversed(list(enumerate(found)))}

    def strength(index: int) -> tuple:
        s = found[index]
        score = 1.0 if s.score is None else s.score
        return (-first[s.category_id], score) if by == "order" else (score,)

    rest = list(found)
    places = []
    for one in kept:  # the survivors, in their order; equal segments are told apart by place
        index = next(i for i, s in enumerate(rest) if s is one and i not in places)
        places.append(index)
    assert places == sorted(places)
    for index in range(len(found)):
        rivals = [
            other
            for other in places
            if other != index
            and iou[index, other] > limit
            and (across or found[other].category_id == found[index].category_id)
        ]
        if index in places:
            assert not rivals
        else:
            assert any(strength(other) >= strength(index) for other in rivals)


@given(some)
def test_non_overlap_gives_every_pixel_one_owner_and_loses_none(drawn) -> None:
    found = made(drawn)
    kept = resolve_overlaps(found, replace_config(non_overlap=True), height=H, width=W)
    planes = pixels(kept)
    total = sum((p.astype(int) for p in planes), np.zeros((H, W), int))
    union = np.zeros((H, W), bool)
    for plane in pixels(found):
        union |= plane
    np.testing.assert_array_equal(total, union)
    for one, plane in zip(kept, planes, strict=True):
        assert one.area == plane.sum()
        assert one.bbox_xywh == codec.bbox_xywh(one.counts, H, W)


def replace_config(**changes) -> ConflictsConfig:
    return OFF.model_copy(update=changes)


def test_the_surer_of_two_stays_or_the_first_category() -> None:
    weak, strong = segment(box(2, 2, 5, 5), 1, 0.4), segment(box(2, 2, 5, 6), 2, 0.9)
    pair = [weak, strong]
    apart = ConflictsConfig(nms_iou=0.5)
    assert resolve_overlaps(pair, apart, height=H, width=W) == (weak, strong)
    by_score = ConflictsConfig(nms_iou=0.5, across_categories=True)
    assert resolve_overlaps(pair, by_score, height=H, width=W) == (strong,)
    by_order = by_score.model_copy(update={"priority": "order"})
    assert resolve_overlaps(pair, by_order, height=H, width=W) == (weak,)


def test_a_small_mask_inside_a_large_one_goes_by_intersection_over_smaller() -> None:
    whole, part = segment(box(0, 0, 10, 10), 1, 0.9), segment(box(1, 1, 2, 2), 1, 0.8)
    assert resolve_overlaps([whole, part], ConflictsConfig(nms_ios=1), height=H, width=W) == (
        whole,
        part,
    )
    assert resolve_overlaps([whole, part], ConflictsConfig(), height=H, width=W) == (whole,)


def test_crowds_are_handed_through_and_suppress_nothing() -> None:
    crowd = segment(box(0, 0, H, W), 1, None, iscrowd=True)
    one = segment(box(1, 1, 3, 3), 1, 0.2)
    for config in (ConflictsConfig(), ConflictsConfig(non_overlap=True)):
        assert resolve_overlaps([crowd, one], config, height=H, width=W) == (crowd, one)


def test_parting_keeps_scores_and_the_order_of_the_input() -> None:
    low, high = segment(box(0, 0, 6, 6), 1, 0.3), segment(box(3, 3, 6, 6), 2, 0.7)
    kept = resolve_overlaps([low, high], replace_config(non_overlap=True), height=H, width=W)
    assert [s.score for s in kept] == [0.3, 0.7]
    assert kept[1] == high
    assert kept[0].area == 36 - 9
    assert resolve_overlaps([], ConflictsConfig(), height=H, width=W) == ()
    hidden = replace(low, score=0.1)
    assert (
        resolve_overlaps(
            [hidden, segment(box(0, 0, 9, 9), 2, 0.9)],
            replace_config(non_overlap=True),
            height=H,
            width=W,
        )[0].category_id
        == 2
    )


def test_real_objects_that_overlap_are_parted(shared_data) -> None:
    data = json.loads((shared_data / "coco-photos" / "instances.json").read_text())
    of_image = [item["image_id"] for item in data["annotations"]]
    image = max(data["images"], key=lambda one: of_image.count(one["id"]))
    height, width = image["height"], image["width"]
    planes = [
        codec.decode(codec.from_coco(item["segmentation"], height, width), height, width)
        for item in data["annotations"]
        if item["image_id"] == image["id"]
    ]
    found = [segment(plane) for plane in planes]
    iou, _ = overlaps(found, height, width)
    assert (iou - np.eye(len(found))).max() > 0
    kept = resolve_overlaps(found, replace_config(non_overlap=True), height=height, width=width)
    total = np.sum([codec.decode(one.counts, height, width) for one in kept], axis=0)
    np.testing.assert_array_equal(total, np.max(planes, axis=0))
    assert all(one.area for one in kept)
