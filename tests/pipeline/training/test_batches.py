"""Batches are a function of the seed and their number, whoever draws them."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_scenes import write_scenes

from pipeline.storage.storage import Storage
from pipeline.training.batches import Batches, cut
from pipeline.training.categories import joined_table
from pipeline.training.data import LabelSource
from pipeline.training.examples import IGNORE, ExamplesPlan
from schemas.config.augment import AugmentConfig


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> ExamplesPlan:
    folder = tmp_path_factory.mktemp("scenes")
    places = (write_scenes(folder / "a", 3), write_scenes(folder / "b", 2, first=3))
    labelled = [LabelSource(place, Storage()) for place in places]
    return ExamplesPlan(
        places=places,
        numbers=((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)),
        names=("0.png", "1.png", "2.png", "3.png", "4.png"),
        rests=("ignore", "ignore"),
        categories=joined_table([("", labelled[0].source.categories or {})]),
    )


def batches(plan: ExamplesPlan, **changes: Any) -> Batches:
    given: dict[str, Any] = {"crop": 32, "batch_size": 4, "batches": 5, "augmented": 1.0, "seed": 2}
    return Batches(plan, augment=AugmentConfig(), **{**given, **changes})


def test_a_batch_is_the_same_in_any_process_and_order(plan: ExamplesPlan):
    first = batches(plan)
    there = pickle.loads(pickle.dumps(batches(plan)))
    there[3]
    for name, values in first[1].items():
        np.testing.assert_array_equal(values, there[1][name])
    assert first[1]["image"].shape == (4, 3, 32, 32)
    assert first[1]["image"].dtype == np.uint8
    assert first[1]["label"].dtype == np.int16
    assert (first[1]["image"] != first[2]["image"]).any()
    assert (first[1]["image"] != batches(plan, seed=3)[1]["image"]).any()


def test_workers_share_what_one_would_draw(plan: ExamplesPlan):
    whole = batches(plan)[2]["image"]
    parts = [batches(plan, rank=rank, workers=2)[2]["image"] for rank in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_each_picture_is_drawn_once_a_round(plan: ExamplesPlan):
    stream = batches(plan)
    rng = np.random.default_rng(0)
    rounds = [[stream._which(5 * turn + i, rng) for i in range(5)] for turn in range(3)]
    assert all(sorted(numbers) == list(range(5)) for numbers in rounds)
    assert rounds[0] != rounds[1] or rounds[1] != rounds[2]


def test_shares_choose_the_dataset(plan: ExamplesPlan):
    stream = batches(plan, shares=(0, 1))
    rng = np.random.default_rng(0)
    assert {stream._which(i, rng) for i in range(40)} == {3, 4}


def test_unchanged_crops_are_pieces_of_their_pictures(plan: ExamplesPlan):
    stream = batches(plan, augmented=0.0, crop=64)
    batch = stream[0]
    examples = plan.open()
    wholes = [examples[number][0] for number in range(5)]
    for crop in batch["image"].transpose(0, 2, 3, 1):
        assert any(
            (whole[:, x : x + 64] == crop).all() for whole in wholes for x in range(80 - 64 + 1)
        )


@settings(max_examples=50)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 99))
def test_small_pictures_are_mirrored_and_their_margin_ignored(height, width, seed):
    pixels = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    label_map = np.zeros((height, width), np.int16)
    image, label = cut(pixels, label_map, 32, np.random.default_rng(seed))
    assert image.shape == (32, 32, 3)
    assert label.shape == (32, 32)
    assert (label != IGNORE).sum() == min(height, 32) * min(width, 32)
