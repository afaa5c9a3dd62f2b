"""A window of a mask is what decoding the whole mask shows there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.masks.codec import encode, mask_window


@given(st.data())
def test_a_window_is_a_part_of_the_mask(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    pixels = st.lists(st.booleans(), min_size=height * width, max_size=height * width)
    mask = np.array(data.draw(pixels), np.uint8).reshape(height, width)
    if not mask.any():
        mask[0, 0] = 1
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right = data.draw(st.integers(left + 1, width))
    bottom = data.draw(st.integers(top + 1, height))
    found = mask_window(encode(mask), height, width, (left, top, right, bottom))
    np.testing.assert_array_equal(found, mask[top:bottom, left:right])
    assert found.dtype == np.uint8


@pytest.mark.parametrize("box", [(0, 0, 6, 2), (-1, 0, 2, 2), (2, 1, 2, 3), (0, 3, 2, 5)])
def test_a_box_outside_is_refused(box: tuple[int, int, int, int]) -> None:
    counts = encode(np.ones((4, 5), np.uint8))
    with pytest.raises(ValueError, match="no box of a 5 × 4 picture"):
        mask_window(counts, 4, 5, box)


def test_a_mask_of_another_picture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        mask_window(encode(np.ones((4, 5), np.uint8)), 5, 5, (0, 0, 2, 2))
