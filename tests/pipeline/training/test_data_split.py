"""No group on both sides, ever; and a picture's side does not depend on the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.data import Pair, split_pairs
from schemas.records import ImageRecord


def pair(number: int, group: str, split: str = "", *, is_copy: bool = False) -> Pair:
    return Pair(number, ImageRecord(f"{number}.png", "/"), group, split, is_copy)


GROUPS = st.lists(st.integers(0, 40), min_size=2, max_size=60).filter(lambda g: len(set(g)) > 1)


@given(groups=GROUPS, val=st.floats(0.01, 0.99), seed=st.integers(0, 9))
def test_groups_stay_whole_and_copies_are_not_validated_on(groups, val, seed):
    pairs = [pair(i, str(group), is_copy=group in groups[:i]) for i, group in enumerate(groups)]
    train, held = split_pairs(pairs, val=val, seed=seed)
    assert train
    assert held
    assert not {pairs[i].group for i in train} & {pairs[i].group for i in held}
    assert not any(pairs[i].is_copy for i in held)
    assert (train, held) == split_pairs(pairs, val=val, seed=seed)


def test_a_new_picture_moves_no_other():
    pairs = [pair(i, str(i)) for i in range(400)]
    _, before = split_pairs(pairs, val=0.2, seed=3)
    _, after = split_pairs([*pairs, pair(400, "new")], val=0.2, seed=3)
    assert set(before) <= set(after)
    assert 40 < len(before) < 120


def test_the_datasets_own_splits_hold():
    pairs = [
        pair(0, "a", "train"),
        pair(1, "b", "val"),
        pair(2, "c", "test"),
        pair(3, "b", "val", is_copy=True),
    ]
    assert split_pairs(pairs, val=0.5, seed=0) == ((0,), (1,))


def test_an_empty_side_is_an_error():
    with pytest.raises(ValueError, match="1 pictures to learn from and 0 to validate on"):
        split_pairs([pair(0, "a", "train")], val=0.5, seed=0)
    with pytest.raises(ValueError, match="both are needed"):
        split_pairs([pair(0, "a"), pair(1, "a")], val=0.5, seed=0)
