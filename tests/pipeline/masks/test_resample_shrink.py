from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.masks import codec
from pipeline.masks.resample import fit, shrink


@st.composite
def stacks(draw: st.DrawFn) -> tuple[list[np.ndarray], tuple[int, int]]:
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    density = draw(st.sampled_from([0.0, 0.03, 0.4, 0.95, 1.0]))
    stack = [random.random((height, width)) < density for _ in range(draw(st.integers(1, 4)))]
    return stack, (draw(st.integers(1, height)), draw(st.integers(1, width)))


@given(stacks())
def test_equals_sampling_the_decoded_masks(case):
    stack, (rows, columns) = case
    height, width = stack[0].shape
    y = (2 * np.arange(rows) + 1) * height // (2 * rows)
    x = (2 * np.arange(columns) + 1) * width // (2 * columns)
    texts = [codec.encode(mask).decode() for mask in stack]
    expected = [mask[np.ix_(y, x)] for mask in stack]
    assert shrink(texts, (height, width), (rows, columns)) == [
        codec.encode(small) if small.any() else None for small in expected
    ]


def test_refuses_to_enlarge():
    text = codec.encode(np.ones((4, 4))).decode()
    with pytest.raises(ValueError, match="cannot shrink"):
        shrink([text], (4, 4), (8, 4))


def test_no_masks_no_strings():
    assert shrink([], (4, 4), (2, 2)) == []


@pytest.mark.parametrize(
    ("size", "expected"),
    [((100, 50), (20, 10)), ((10, 5), (10, 5)), ((4000, 3), (20, 1)), ((30, 60), (10, 20))],
)
def test_fit_keeps_proportions_and_never_enlarges(size, expected):
    assert fit(size, 20) == expected
