"""What every bundled model promises, whatever its family: one suite over `BUNDLED`."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
from pictures import disc_picture
from pycocotools import mask as coco_mask

from pipeline.models.checkpoints.families import BUNDLED, Segmenter, segmenter_class
from pipeline.models.checkpoints.info import ModelInfo, bundled, describe
from pipeline.models.tiling.tiled import Tiled
from schemas.config.model import ModelConfig, TilingConfig
from schemas.records import ImageRecord, Sample, Segment, Segmentation, Task

TILED = " in tiles"
"""After a model's name: behind the wrapper that cuts large pictures."""
CASES = [
    *((model.name, task) for model in bundled() for task in model.tasks),
    ("otsu" + TILED, "instance"),
    ("otsu" + TILED, "semantic"),
    ("unet-nuclei" + TILED, "panoptic"),
]
EVERY_CASE = pytest.mark.parametrize(("name", "task"), CASES)
EVERY_MODEL = pytest.mark.parametrize("name", sorted(BUNDLED))


def described(name: str) -> ModelInfo:
    return describe(name.removesuffix(TILED))


def loaded(name: str, task: Task, **options: Any) -> Segmenter:
    info = described(name)
    config = ModelConfig(name=name, **options)
    model: Segmenter = segmenter_class(info.family)(info, config, (task,))
    if name.endswith(TILED):
        tiling = TilingConfig(size=64, overlap=32)
        model = Tiled(model, info, (task,), options=config, tiling=tiling)
    model.load("cpu")
    return model


@cache
def segmenter(name: str, task: Task) -> Segmenter:
    return loaded(name, task)


def sample(picture: np.ndarray, name: str = "a") -> Sample:
    height, width = picture.shape[:2]
    return Sample(ImageRecord(name, ""), np.ascontiguousarray(picture), (height, width))


def cells(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Bright soft discs on a dark noisy ground, as in fluorescence."""
    rng = np.random.default_rng(seed)
    grey = np.zeros((height, width), np.float32)
    for _ in range(max(3, height * width // 1500)):
        centre = rng.integers((0, 0), (width, height)).tolist()
        cv2.circle(grey, centre, int(rng.integers(6, 11)), float(rng.uniform(110, 220)), -1)
    grey = cv2.GaussianBlur(grey, (0, 0), 1.5) + 12 + rng.normal(0, 3, grey.shape)
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


@cache
def odd_samples() -> tuple[Sample, ...]:
    """Sizes that no stride divides, pictures with everything and with nothing in them."""
    rng = np.random.default_rng(1)
    pictures = [
        cells(96, 131),
        cells(77, 48, seed=1),
        disc_picture(3),
        np.zeros((1, 1, 3), np.uint8),
        np.full((1, 1, 3), 255, np.uint8),
        cells(1, 37),
        cells(53, 1),
        cells(2, 3),
        rng.integers(0, 256, (33, 50, 3), np.uint8),
        np.full((40, 16, 3), 128, np.uint8),
        np.full((31, 17, 3), (255, 0, 0), np.uint8),
    ]
    return tuple(sample(picture, f"{i}.png") for i, picture in enumerate(pictures))


@cache
def odd_answers(name: str, task: Task) -> tuple[Segmentation, ...]:
    return tuple(segmenter(name, task).segment(odd_samples()))


def mask_of(segment: Segment, hw: tuple[int, int]) -> np.ndarray:
    return coco_mask.decode({"size": list(hw), "counts": segment.counts})


def things(found: Segmentation, name: str) -> list[Segment]:
    table = described(name).categories.by_id()
    return [s for s in found.segments if not table[s.category_id].is_background]


@EVERY_CASE
def test_one_answer_a_picture_in_the_same_order(name: str, task: Task) -> None:
    found = odd_answers(name, task)
    assert [(f.height, f.width) for f in found] == [s.original_hw for s in odd_samples()]
    assert all(f.failure is None for f in found)
    assert segmenter(name, task).segment([]) == []


@EVERY_CASE
def test_the_pictures_hold_something_to_find(name: str, task: Task) -> None:
    """Or the rest of this file would prove nothing."""
    assert len(things(odd_answers(name, task)[0], name)) >= (1 if task == "semantic" else 3)


@EVERY_CASE
def test_masks_areas_and_boxes_are_those_of_pycocotools(name: str, task: Task) -> None:
    known = described(name).categories.by_id()
    for source, found in zip(odd_samples(), odd_answers(name, task), strict=True):
        for segment in found.segments:
            mask = mask_of(segment, source.original_hw)
            assert mask.shape == source.original_hw
            rle = coco_mask.encode(np.asfortranarray(mask))
            assert segment.counts == rle["counts"]
            assert isinstance(segment.counts, bytes)
            assert segment.area == int(coco_mask.area(rle)) >= 1
            assert list(segment.bbox_xywh) == coco_mask.toBbox(rle).tolist()
            assert all(type(value) is int for value in (segment.area, *segment.bbox_xywh))
            assert segment.category_id in known
            assert segment.score is None or 0 <= segment.score <= 1
            assert segment.score is None or type(segment.score) is float


@EVERY_CASE
def test_what_each_task_promises(name: str, task: Task) -> None:
    table = described(name).categories
    background = [item.id for item in table if item.is_background]
    for source, found in zip(odd_samples(), odd_answers(name, task), strict=True):
        ids = [segment.category_id for segment in found.segments]
        covered = sum(
            (mask_of(segment, source.original_hw).astype(np.int32) for segment in found.segments),
            np.zeros(source.original_hw, np.int32),
        )
        if task == "instance":
            assert all(table.by_id()[id_].isthing for id_ in ids)
            continue
        assert covered.max() <= 1, "segments overlap"
        if background:
            assert covered.min() == 1, "a pixel is nobody's"
        single = ids if task == "semantic" else [i for i in ids if not table.by_id()[i].isthing]
        assert len(set(single)) == len(single), "one segment a category"


@EVERY_CASE
def test_a_picture_does_not_see_its_neighbours(name: str, task: Task) -> None:
    model = segmenter(name, task)
    alone = [model.segment([one])[0] for one in odd_samples()]
    assert alone == list(odd_answers(name, task))
    three = [odd_samples()[i] for i in (1, 0, 5)]
    assert model.segment(three) == [alone[i] for i in (1, 0, 5)]


@EVERY_CASE
def test_a_second_call_and_a_second_model_say_the_same(name: str, task: Task) -> None:
    some = odd_samples()[:3]
    expected = list(odd_answers(name, task)[:3])
    assert segmenter(name, task).segment(some) == expected
    fresh = loaded(name, task, batch_size=2)
    assert fresh.segment(some) == expected
    fresh.close()


@EVERY_CASE
def test_pixels_are_left_as_they_were(name: str, task: Task) -> None:
    one = sample(cells(50, 60))
    before = one.pixels.copy()
    segmenter(name, task).segment([one])
    np.testing.assert_array_equal(one.pixels, before)


@EVERY_CASE
@pytest.mark.parametrize("hw", [(192, 262), (193, 261)])
def test_pictures_scaled_in_decoding_have_masks_of_the_original_size(
    name: str, task: Task, hw: tuple[int, int]
) -> None:
    whole = cv2.resize(cells(96, 131), hw[::-1], interpolation=cv2.INTER_CUBIC)
    half = ((hw[0] + 1) // 2, (hw[1] + 1) // 2)
    small = cv2.resize(whole, half[::-1], interpolation=cv2.INTER_AREA)
    (found,) = segmenter(name, task).segment([replace(sample(small), original_hw=hw)])
    (direct,) = segmenter(name, task).segment([sample(small)])
    assert (found.height, found.width) == hw

    def union(segments: Sequence[Segment], size: tuple[int, int]) -> np.ndarray:
        return np.max([mask_of(s, size) for s in segments], axis=0)

    large = union(things(found, name), hw)
    again = cv2.resize(union(things(direct, name), half), hw[::-1], interpolation=cv2.INTER_NEAREST)
    assert (large & again).sum() / (large | again).sum() > 0.8
    if task == "panoptic":
        assert sum(s.area for s in found.segments) == hw[0] * hw[1]


def found_with(name: str, task: Task, **options: Any) -> Segmentation:
    return loaded(name, task, **options).segment([odd_samples()[0]])[0]


@EVERY_CASE
def test_a_higher_threshold_finds_less(name: str, task: Task) -> None:
    areas = [
        sum(s.area for s in things(found_with(name, task, threshold=t, min_area=1), name))
        for t in (0.1, 0.5, 0.95)
    ]
    assert areas[0] > areas[1] > areas[2]


@pytest.mark.parametrize(("name", "task"), [case for case in CASES if case[1] != "semantic"])
def test_min_area_and_min_score_hold_for_every_object(name: str, task: Task) -> None:
    plain = things(odd_answers(name, task)[0], name)
    middle = sorted(s.area for s in plain)[len(plain) // 2]
    large = things(found_with(name, task, min_area=middle), name)
    assert min(s.area for s in large) >= middle
    assert len(large) == sum(s.area >= middle for s in plain)
    scores = sorted(s.score for s in plain if s.score is not None)
    sure = things(found_with(name, task, min_score=scores[-1]), name)
    found = {s.score for s in sure}
    # A tile's view below the limit no longer counts in the mean of several.
    assert min(found) >= scores[-1] if name.endswith(TILED) else found == {scores[-1]}
    assert len(sure) < len(plain) or scores[0] == scores[-1]


@EVERY_MODEL
def test_the_description_travels_to_the_workers(name: str) -> None:
    info = describe(name)
    again = pickle.loads(pickle.dumps(info))
    assert again == info
    assert list(again.categories) == list(info.categories)


@EVERY_MODEL
def test_answers_travel(name: str) -> None:
    found = odd_answers(name, describe(name).tasks[0])
    assert pickle.loads(pickle.dumps(found)) == found
