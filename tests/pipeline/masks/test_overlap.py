"""overlap.py: no pixel belongs to two segments, and nothing else is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.masks import codec
from pipeline.masks.overlap import paint, panoptic_of_segments
from schemas.categories import Categories, Category
from schemas.records import Segment

SIZE = (12, 15)
CATEGORIES = Categories(
    (
        Category(1, "cell", True, "#ff0000"),
        Category(2, "background", False, "#000000", is_background=True),
        Category(7, "sky", False, "#0000ff"),
        Category(9, "grass", False, "#00ff00"),
    )
)


def segment(mask, category_id=1, score=None) -> Segment:
    (region,) = codec.regions(np.asarray(mask, np.uint8))
    return Segment(category_id, region.counts, region.area, region.bbox_xywh, score=score)


def box(top, left, bottom, right, category_id=1, score=None) -> Segment:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return segment(mask, category_id, score)


def pixels(item: Segment, size=SIZE) -> np.ndarray:
    return codec.decode(item.counts, *size).astype(bool)


def assert_disjoint_and_true(segments, size=SIZE):
    total = np.zeros(size, int)
    for item in segments:
        mask = pixels(item, size)
        total += mask
        assert item.area == mask.sum() > 0
        assert item.bbox_xywh == codec.bbox_xywh(item.counts, *size)
    assert total.max(initial=0) <= 1


@st.composite
def proposals(draw):
    items = []
    for _ in range(draw(st.integers(0, 8))):
        top, left = draw(st.integers(0, 11)), draw(st.integers(0, 14))
        bottom, right = draw(st.integers(top + 1, 12)), draw(st.integers(left + 1, 15))
        category = draw(st.sampled_from([1, 1, 2, 7, 9]))
        score = draw(st.sampled_from([None, 0.2, 0.5, 0.9]))
        items.append(box(top, left, bottom, right, category, score))
    return items


def test_paint_puts_the_first_on_top():
    label_map = paint([box(0, 0, 4, 4), box(2, 2, 8, 8)], *SIZE)
    assert label_map[3, 3] == 1
    assert label_map[5, 5] == 2
    assert label_map[11, 14] == 0
    assert label_map.flags.c_contiguous


def test_paint_refuses_another_size():
    with pytest.raises(ValueError, match="malformed RLE"):
        paint([box(0, 0, 4, 4)], 11, 15)


@settings(max_examples=60, deadline=None)
@given(proposals(), st.integers(1, 12))
def test_panoptic_covers_the_picture_with_one_segment_a_stuff_category(items, min_area):
    result = panoptic_of_segments(items, CATEGORIES, *SIZE, min_area=min_area)
    assert_disjoint_and_true(result)
    assert sum(item.area for item in result) == SIZE[0] * SIZE[1]
    stuff = [item.category_id for item in result if item.category_id != 1]
    assert len(stuff) == len(set(stuff))
    assert all(item.area >= min_area for item in result if item.category_id != 2)
    assert result == panoptic_of_segments(items, CATEGORIES, *SIZE, min_area=min_area)


def test_panoptic_puts_things_over_stuff_and_fuses_pieces():
    sky_left, sky_right = box(0, 0, 4, 4, 7, 0.9), box(0, 8, 4, 12, 7, 0.7)
    cell = box(2, 2, 6, 6, 1, 0.3)
    result = panoptic_of_segments([sky_left, cell, sky_right], CATEGORIES, *SIZE)
    assert [(item.category_id, item.area, item.score) for item in result] == [
        (1, 16, 0.3),
        (7, 16 + 16 - 4, 0.9),
        (2, 12 * 15 - 16 - 28, None),
    ]


def test_panoptic_without_background_leaves_pixels_to_nobody():
    plain = Categories(tuple(item for item in CATEGORIES if not item.is_background))
    cell, crumb = box(0, 0, 4, 4), box(10, 10, 11, 11, 9)
    assert panoptic_of_segments([crumb, cell], plain, *SIZE, min_area=2) == (cell,)
    assert panoptic_of_segments([], plain, *SIZE) == ()


def test_panoptic_names_unknown_categories():
    with pytest.raises(ValueError, match=r"unknown categories: \[5\]"):
        panoptic_of_segments([box(0, 0, 2, 2, 5)], CATEGORIES, *SIZE)
