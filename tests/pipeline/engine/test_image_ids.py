import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine import image_ids
from pipeline.engine.image_ids import assign_copy_ids
from schemas.records import MAX_IMAGE_ID


@given(
    ids=st.lists(st.integers(1, MAX_IMAGE_ID), unique=True, max_size=50), copies=st.integers(0, 5)
)
def test_ids_are_free_different_and_follow_the_picture(ids, copies):
    found = assign_copy_ids(np.array(ids, np.int64), copies)
    assert found.shape == (len(ids), copies)
    assert len({*ids, *found.reshape(-1).tolist()}) == len(ids) * (1 + copies)
    assert not found.size or (found.min() >= 1 and found.max() <= MAX_IMAGE_ID)
    backwards = assign_copy_ids(np.array(ids[::-1], np.int64), copies)
    np.testing.assert_array_equal(backwards[::-1], found)


def test_collisions_are_solved_the_same_in_any_order(monkeypatch):
    monkeypatch.setattr(image_ids, "MAX_IMAGE_ID", 997)
    ids = np.random.default_rng(0).permutation(997)[:100].astype(np.int64) + 1
    found = assign_copy_ids(ids, 3)
    assert len({*ids.tolist(), *found.reshape(-1).tolist()}) == 400
    order = np.random.default_rng(1).permutation(100)
    np.testing.assert_array_equal(assign_copy_ids(ids[order], 3), found[order])
    with pytest.raises(ValueError, match=r"augment.copies: 100 pictures with 9 copies"):
        assign_copy_ids(ids, 9)


def test_another_picture_moves_hardly_any_id():
    ids = np.arange(1, 5001, dtype=np.int64) * 397_001
    some, more = assign_copy_ids(ids[:-1], 4), assign_copy_ids(ids, 4)
    assert (some == more[:-1]).mean() > 0.9999
