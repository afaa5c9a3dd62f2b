"""Segments from maps: strings, areas and boxes are pycocotools'."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from pipeline.models.grids.maps import Found, LabelMap, MaskStack, place_rectangles
from pipeline.models.postprocess import encode as module
from pipeline.models.postprocess.encode import segments_of
from schemas.records import Segment

SIDE = st.integers(1, 17)


def label_map(labels: np.ndarray, agreement: bool = False) -> LabelMap:
    """Entry n has category n and score n/100."""
    count = int(labels.max(initial=0)) + 1
    flat = torch.from_numpy(np.ascontiguousarray(labels.T))
    numbers = np.arange(count)
    return LabelMap(flat.T, Found(numbers, numbers / 100, numbers / 50 if agreement else None))


def check(segment: Segment, mask: np.ndarray) -> None:
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert segment.counts == code["counts"]
    assert segment.area == mask.sum()
    assert list(segment.bbox_xywh) == coco_mask.toBbox(code).tolist()


@settings(max_examples=60)
@given(st.integers(0, 10**6), SIDE, SIDE, st.integers(1, 6), st.sampled_from([np.uint8, np.int16]))
def test_label_maps(seed, height, width, count, dtype):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, count + 1, (height, width)).astype(dtype)
    (segments,) = segments_of([label_map(labels)], category_ids=range(10, 30))
    assert [one.category_id - 9 for one in segments] == [n for n in np.unique(labels) if n]
    for one in segments:
        check(one, labels == one.category_id - 9)
        assert one.score == (one.category_id - 10) / 100


@settings(max_examples=60)
@given(st.integers(0, 10**6), SIDE, SIDE, st.integers(0, 5))
def test_mask_stacks(seed, height, width, count):
    rng = np.random.default_rng(seed)
    left, top = rng.integers(0, width, count), rng.integers(0, height, count)
    wide, high = rng.integers(0, width - left + 1), rng.integers(0, height - top + 1)
    whole = rng.random(count) < 0.4  # as high as the picture: runs go on in the next column
    top[whole], high[whole] = 0, height
    laid = place_rectangles(np.stack((left, top, wide, high), axis=1), height)
    pixels = torch.zeros(laid.size, dtype=torch.uint8)
    masks = np.zeros((count, height, width), np.bool_)
    for index in range(count):
        plane = rng.random((wide[index], high[index])) < 0.6
        laid.plane(pixels, index)[:] = torch.from_numpy(plane)
        y, x = top[index], left[index]
        masks[index, y : y + high[index], x : x + wide[index]] = plane.T
    planes = rng.integers(0, max(count, 1), 7 if count else 0)  # some twice, some never
    labels = np.arange(len(planes))
    stack = MaskStack(
        (height, width), pixels, laid.offsets, laid.boxes_xywh, laid.strides, planes,
        Found(labels, np.ones(len(planes))),
    )  # fmt: skip
    (segments,) = segments_of([stack], category_ids=range(1, 30))
    expected = [n for n in labels if masks[planes[n]].any()]
    assert [one.category_id - 1 for one in segments] == expected
    for one in segments:
        check(one, masks[planes[one.category_id - 1]])


def test_order_is_that_of_what_was_found_and_strangers_are_left_out():
    labels = np.array([[1, 2], [3, 3]], np.uint8)
    found = Found(np.array([7, 5, 0]), np.array([0.123456, 0.5, 1.0]), np.array([0.33333, 0.5, 1]))
    each = LabelMap(torch.from_numpy(labels.T.copy()).T, found)
    (segments,) = segments_of([each], category_ids=[11, 0, 0, 0, 0, 0, 0, 99])
    assert [(one.category_id, one.score, one.tta_agreement) for one in segments] == [
        (99, 0.1235, 0.3333),
        (11, 1.0, 1.0),
    ]


def test_several_maps_and_none():
    maps = [label_map(np.full((3, 4), n, np.uint8)) for n in (0, 1, 2)]
    found = segments_of(maps, category_ids=[1, 2, 3])
    assert [[one.category_id for one in some] for some in found] == [[], [1], [2]]
    assert segments_of([], category_ids=[]) == []


def test_a_view_of_another_memory_order_is_read_rightly():
    labels = np.array([[1, 1, 0], [0, 1, 2]], np.uint8)
    plain = LabelMap(torch.from_numpy(labels), Found(np.arange(2), np.ones(2)))
    assert segments_of([plain], category_ids=[1, 2]) == segments_of(
        [LabelMap(torch.from_numpy(labels.T.copy()).T, plain.found)], category_ids=[1, 2]
    )


@pytest.mark.parametrize("at_once", [1, 2, 7])
def test_parts_of_a_buffer_are_joined(monkeypatch, at_once):
    labels = np.random.default_rng(0).integers(0, 3, (5, 7)).astype(np.uint8)
    whole = segments_of([label_map(labels)], category_ids=[1, 2, 3])
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    assert segments_of([label_map(labels)], category_ids=[1, 2, 3]) == whole
