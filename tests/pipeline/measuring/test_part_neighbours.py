import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_zoo import drawn, runs_of
from scipy.ndimage import binary_dilation

import pipeline.measuring.part as neighbours_module
from pipeline.measuring.part import find_neighbours


def pairs(stack, distance, group=None):
    numbers = np.zeros(len(stack), np.int64) if group is None else np.array(group)
    one, other = find_neighbours(runs_of(stack), numbers, distance)
    found = list(zip(one.tolist(), other.tolist(), strict=True))
    assert found == sorted(set(found))
    return set(found)


def expected(stack, distance):
    wide = [
        binary_dilation(mask, np.ones((2 * distance + 1,) * 2)) if distance else mask
        for mask in stack
    ]
    n = range(len(stack))
    return {(i, j) for i in n for j in n if i != j and (wide[i] & stack[j]).any()}


@settings(max_examples=80)
@given(st.data())
def test_overlapping_and_distant_masks(data):
    height, width = data.draw(st.tuples(st.integers(1, 14), st.integers(1, 14)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    stack = [rng.random((height, width)) < rng.random() * 0.2 for _ in range(5)]
    stack = [mask for mask in stack if mask.any()] or [np.ones((height, width), bool)]
    distance = data.draw(st.integers(0, 4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours_module, "_PAIRS", data.draw(st.sampled_from([1, 9, 2_000_000])))
        assert pairs(stack, distance) == expected(stack, distance)


def test_corners_touch_and_a_gap_does_not():
    one, corner, apart = drawn("#....", "....."), drawn(".....", ".#..."), drawn("...#.", ".....")
    assert pairs([one, corner, apart], 1) == {(0, 1), (1, 0)}
    assert pairs([one, corner, apart], 2) == {(0, 1), (1, 0), (1, 2), (2, 1)}
    assert pairs([one, corner, apart], 0) == set()


def test_pictures_are_kept_apart():
    mask = np.ones((3, 3), bool)
    assert pairs([mask, mask, mask], 1, group=[5, 5, 9]) == {(0, 1), (1, 0)}


def test_a_column_does_not_reach_into_the_next():
    bottom, top = drawn("...", "...", "#.."), drawn("..#", "...", "...")
    assert pairs([bottom, top], 1) == set()
