"""Masks that say again what another says go; parts of a whole and cars on a road stay."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.masks import codec
from pipeline.tiling.duplicates import DuplicateRule, duplicates
from schemas.records import Segment

HW = (60, 80)
RULE = DuplicateRule(0.7)


def box(x: int, y: int, w: int, h: int, score: float = 0.5, category: int = 1) -> Segment:
    mask = np.zeros(HW, np.uint8)
    mask[y : y + h, x : x + w] = 1
    return Segment(category, codec.encode(mask), w * h, (x, y, w, h), score)


def gone(
    *segments: Segment, fragment: str = "", tile: str = "", rule: DuplicateRule = RULE
) -> list[int]:
    flags = np.array([mark == "f" for mark in fragment or "." * len(segments)])
    tiles = np.array([int(mark) for mark in tile or "0" * len(segments)])
    return np.flatnonzero(duplicates(segments, rule, *HW, fragment=flags, tile=tiles)).tolist()


WHOLE = box(10, 10, 20, 20)


def test_of_two_that_share_most_the_better_stays() -> None:
    again = box(11, 10, 20, 20, 0.9)
    assert gone(WHOLE, again) == [0]
    assert gone(again, WHOLE) == [1]
    assert gone(WHOLE, again, rule=DuplicateRule(0.95)) == []
    assert gone(WHOLE, box(11, 10, 20, 20, 0.9, category=2)) == []
    across = DuplicateRule(0.7, across_categories=True)
    assert gone(WHOLE, box(11, 10, 20, 20, 0.9, category=2), rule=across) == [0]


def test_what_an_edge_cuts_goes_before_what_is_whole() -> None:
    assert gone(WHOLE, box(10, 10, 20, 18, 0.9), fragment=".f") == [1]


@pytest.mark.parametrize("score", [0.1, 0.9])
def test_a_fragment_inside_a_larger_mask_goes_whatever_its_score(score: float) -> None:
    inside = box(10, 16, 20, 8, score)
    assert gone(WHOLE, inside, fragment=".f") == [1]
    assert gone(inside, WHOLE, fragment="f.") == [0]
    assert gone(WHOLE, inside) == [], "a part of a whole is what everything-masks are for"
    beside = box(10, 28, 20, 8, score)
    assert gone(WHOLE, beside, fragment=".f") == []


def test_another_tiles_view_of_the_same_object_goes_a_car_on_a_road_stays() -> None:
    view, car = box(11, 11, 18, 15), box(12, 12, 5, 4)
    assert gone(WHOLE, view, tile="01", rule=DuplicateRule(0.9)) == [1]
    assert gone(WHOLE, view, tile="00", rule=DuplicateRule(0.9)) == []
    assert gone(WHOLE, car, tile="01") == []


def test_the_order_of_the_segments_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    some = [
        box(*rng.integers(0, 40, 2), *rng.integers(8, 20, 2), score=float(score))
        for score in rng.permutation(40) / 40
    ]
    rule = DuplicateRule(0.2)
    plain = gone(*some, rule=rule)
    assert 0 < len(plain) < len(some)
    order = rng.permutation(len(some))
    turned = gone(*(some[index] for index in order), rule=rule)
    assert sorted(int(order[index]) for index in turned) == plain
    kept = [one for index, one in enumerate(some) if index not in plain]
    assert gone(*kept, rule=rule) == []


def test_nothing_at_all() -> None:
    assert gone() == []
