"""Polygons of masks: exact at tolerance 0, holes and parts kept, simplified within bounds."""

from __future__ import annotations

import cv2
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.masks import codec
from pipeline.masks.polygons import bridged, components_of, signed_area


def parts_of(mask, tolerance=0.0):
    height, width = mask.shape
    counts = codec.encode(mask)
    box = codec.bbox_xywh(counts, height, width)
    return components_of(counts, height, width, box, tolerance=tolerance)


def drawn(rings, shape) -> np.ndarray:
    """Drawn by pycocotools, the union of the rings."""
    polygons = [ring.reshape(-1).tolist() for ring in rings]
    return codec.decode(codec.from_coco(polygons, *shape), *shape)


masks = hnp.arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)),
                   elements=st.integers(0, 1)).filter(lambda mask: mask.any())  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(masks)
def test_pycocotools_draws_the_mask_from_its_polygons(mask):
    rings = [bridged([part.outer, *part.holes]) for part in parts_of(mask)]
    assert np.array_equal(drawn(rings, mask.shape), mask)


@settings(max_examples=150, deadline=None)
@given(masks)
def test_one_ring_of_all_parts_and_holes_is_the_mask_too(mask):
    rings = [ring for part in parts_of(mask) for ring in (part.outer, *part.holes)]
    assert np.array_equal(drawn([bridged(rings)], mask.shape), mask)


@settings(max_examples=150, deadline=None)
@given(masks)
def test_outlines_less_holes_have_the_masks_area(mask):
    parts = parts_of(mask)
    outer = sum(abs(signed_area(part.outer)) for part in parts)
    holes = sum(abs(signed_area(hole)) for part in parts for hole in part.holes)
    assert outer - holes == mask.sum()


def test_a_pixel_is_its_square():
    mask = np.zeros((5, 6), np.uint8)
    mask[2, 3] = 1
    (part,) = parts_of(mask)
    assert not part.holes
    assert sorted(map(tuple, part.outer.tolist())) == [(3, 2), (3, 3), (4, 2), (4, 3)]


def test_a_rectangle_has_four_corners_at_its_pixels_edges():
    mask = np.zeros((20, 30), np.uint8)
    mask[3:8, 10:25] = 1
    (part,) = parts_of(mask)
    assert sorted(map(tuple, part.outer.tolist())) == [(10, 3), (10, 8), (25, 3), (25, 8)]


def test_parts_holes_and_an_island_in_a_hole():
    mask = np.zeros((40, 40), np.uint8)
    mask[2:30, 2:30] = 1
    mask[6:20, 6:20] = 0
    mask[10:14, 10:14] = 1  # an island
    mask[24:26, 24:26] = 0
    mask[35:38, 35:38] = 1
    parts = parts_of(mask)
    assert sorted(len(part.holes) for part in parts) == [0, 0, 2]


@pytest.mark.parametrize("tolerance", [0.5, 1.0, 3.0])
def test_simplified_rings_stay_near_and_none_is_lost(tolerance):
    mask = np.zeros((200, 220), np.uint8)
    cv2.ellipse(mask, (100, 90), (70, 40), 25, 0, 360, 1, -1)
    cv2.circle(mask, (100, 90), 15, 0, -1)
    mask[195, 210] = 1
    exact, fewer = parts_of(mask), parts_of(mask, tolerance)
    assert len(fewer) == len(exact) == 2
    assert sum(len(p.outer) for p in fewer) < sum(len(p.outer) for p in exact)
    back = drawn([bridged([part.outer, *part.holes]) for part in fewer], mask.shape)
    assert back[195, 210] == 1
    union = np.count_nonzero(back | mask)
    iou = np.count_nonzero(back & mask) / union
    assert iou > 1 - 0.03 * tolerance
    for part, whole in zip(fewer, exact, strict=True):
        for ring, true in zip((part.outer, *part.holes), (whole.outer, *whole.holes), strict=True):
            line = true.reshape(-1, 1, 2).astype(np.float32)
            far = [abs(cv2.pointPolygonTest(line, tuple(map(float, p)), True)) for p in ring]
            assert max(far) <= tolerance
