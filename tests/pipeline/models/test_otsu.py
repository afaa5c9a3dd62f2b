"""The baseline finds what a threshold can find, and its options do what they say."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from skimage.filters import threshold_otsu

from pipeline.masks.codec import decode
from pipeline.models.checkpoints.info import describe
from pipeline.models.otsu import OtsuSegmenter
from schemas.config.model import ModelConfig
from schemas.records import ImageRecord, Sample, Segmentation, Task


def segment(picture: np.ndarray, task: Task = "instance", **options: Any) -> Segmentation:
    model = OtsuSegmenter(describe("otsu"), ModelConfig(name="otsu", **options), (task,))
    model.load("cpu")
    sample = Sample(ImageRecord("a", ""), picture, (picture.shape[0], picture.shape[1]))
    (found,) = model.segment([sample])
    return found


def boxes(*values: int) -> np.ndarray:
    """60×80 dark ground with one 8×10 box a value, side by side, and a 2×2 speck."""
    picture = np.full((60, 80, 3), 10, np.uint8)
    for number, value in enumerate(values):
        picture[20:28, 5 + 20 * number : 15 + 20 * number] = value
    picture[50:52, 70:72] = 250
    return picture


def test_every_box_is_found_exactly_and_the_speck_is_not() -> None:
    found = segment(boxes(200, 220, 240))
    assert [s.bbox_xywh for s in found.segments] == [
        (5, 20, 10, 8),
        (25, 20, 10, 8),
        (45, 20, 10, 8),
    ]
    assert [s.area for s in found.segments] == [80, 80, 80]


def test_the_threshold_is_otsu_s() -> None:
    rng = np.random.default_rng(3)
    grey = np.clip(rng.normal(60, 15, (64, 64)), 0, 255)
    cv2.circle(grey, (30, 30), 12, 170, -1)
    grey = np.clip(grey + rng.normal(0, 15, grey.shape), 0, 255).astype(np.uint8)
    found = segment(np.repeat(grey[..., None], 3, axis=2), "semantic", min_area=1)
    mask = decode(found.segments[0].counts, 64, 64)
    np.testing.assert_array_equal(mask, grey > threshold_otsu(grey))


def test_a_threshold_of_one_s_own() -> None:
    picture = boxes(100, 150, 240)
    assert len(segment(picture, threshold=0.3).segments) == 3
    assert len(segment(picture, threshold=0.5).segments) == 2
    assert len(segment(picture, threshold=0.9).segments) == 1
    assert segment(picture, threshold=1.0).segments == ()
    assert segment(picture, threshold=0.0).segments[0].area == 60 * 80


def test_min_area_and_min_score() -> None:
    picture = boxes(200, 220, 240)
    assert len(segment(picture, min_area=4).segments) == 4  # the speck
    assert len(segment(picture, min_area=80).segments) == 3
    assert segment(picture, min_area=81).segments == ()


def test_the_score_is_the_contrast_to_the_threshold() -> None:
    picture = boxes(60, 100, 220)
    scores = [s.score for s in segment(picture, threshold=0.1).segments]
    assert scores == [round(0.5 + (v - 25.5) / 255, 4) for v in (60, 100)] + [1.0]
    kept = segment(picture, threshold=0.1, min_score=0.75).segments
    assert [s.score for s in kept] == scores[1:]


@pytest.mark.parametrize("level", [0, 7, 255])
def test_a_flat_picture_holds_nothing(level: int) -> None:
    picture = np.full((20, 30, 3), level, np.uint8)
    assert segment(picture).segments == ()
    (ground,) = segment(picture, "panoptic").segments
    assert (ground.category_id, ground.area, ground.score) == (2, 600, None)


def test_panoptic_ground_has_the_pixels_of_what_was_dropped() -> None:
    picture = boxes(60, 100, 220)
    found = segment(picture, "panoptic", threshold=0.1, min_score=0.75)
    assert len(found.segments) == 3
    assert sum(s.area for s in found.segments) == 60 * 80
    *things, ground = found.segments
    assert ground.category_id == 2
    kept = sum(decode(s.counts, 60, 80) for s in things)
    np.testing.assert_array_equal(decode(ground.counts, 60, 80), 1 - kept)


def test_semantic_is_one_region_a_category() -> None:
    found = segment(boxes(200, 220, 240), "semantic")
    assert [(s.category_id, s.area) for s in found.segments] == [(1, 240), (2, 60 * 80 - 240)]


def test_parts_that_touch_by_a_corner_are_two() -> None:
    picture = np.full((40, 40, 3), 10, np.uint8)
    picture[5:15, 5:15] = picture[15:25, 15:25] = 200
    assert len(segment(picture).segments) == 2
