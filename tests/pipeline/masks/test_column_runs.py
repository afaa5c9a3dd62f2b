"""Runs of many masks against the same masks as pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.masks.codec import encode
from pipeline.masks.column_runs import (
    ColumnRuns,
    components,
    concatenate,
    merge_runs,
    read_column_runs,
)

SHAPE = st.tuples(st.integers(1, 4), st.integers(1, 11), st.integers(1, 13))


def random_masks(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """n×H×W; each has a pixel, one is full."""
    rng = np.random.default_rng(seed)
    masks = rng.random(shape) < rng.uniform(0.1, 0.95, (shape[0], 1, 1))
    masks[:, rng.integers(shape[1]), rng.integers(shape[2])] = True
    masks[rng.integers(shape[0])] = True
    return masks


def read(masks: np.ndarray) -> ColumnRuns:
    return read_column_runs([encode(mask) for mask in masks], *masks.shape[1:])


def drawn(runs: ColumnRuns, shape: tuple[int, ...]) -> np.ndarray:
    """How often each pixel of each mask is covered."""
    out = np.zeros(shape, int)
    for mask, x, top, bottom in zip(runs.mask, runs.x, runs.top, runs.bottom, strict=True):
        out[mask, top:bottom, x] += 1
    return out


@given(SHAPE, st.integers(0, 2**32))
def test_reading_windows_and_areas(shape, seed):
    masks = random_masks(shape, seed)
    runs = read(masks)
    np.testing.assert_array_equal(drawn(runs, shape), masks)
    rng = np.random.default_rng(seed)
    y, x = (slice(*sorted(rng.integers(0, size + 1, 2).tolist())) for size in shape[1:])
    cut = np.zeros(shape, bool)
    cut[:, y, x] = masks[:, y, x]
    window = runs.within(y, x)
    np.testing.assert_array_equal(drawn(window, shape), cut)
    np.testing.assert_array_equal(window.areas(shape[0]), cut.sum((1, 2)))


@given(SHAPE, st.integers(0, 2**32), st.booleans())
def test_parts_are_opencv_s_components(shape, seed, diagonal):
    masks = random_masks(shape, seed)
    runs = read(masks)
    parts = runs.parts(diagonal=diagonal)
    near = 8 if diagonal else 4
    expected = [cv2.connectedComponents(m.astype(np.uint8), connectivity=near) for m in masks]
    count = sum(number - 1 for number, _ in expected)
    assert sorted(set(parts.mask.tolist())) == list(range(count))
    where = drawn(parts, (count, *shape[1:])) > 0
    of_mask = dict(zip(parts.mask, runs.mask, strict=True))
    for part in range(count):
        numbers = expected[of_mask[part]][1]
        number = numbers[where[part]][0]
        np.testing.assert_array_equal(where[part], numbers == number)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers())
def test_overlaps_are_the_shared_pixels(few, more, height, width, seed):
    here = random_masks((few, height, width), abs(seed))
    there = random_masks((more, height, width), abs(seed) + 1)
    i, j, pixels = read(here).overlaps(read(there))
    table = np.zeros((few, more), int)
    table[i, j] = pixels
    np.testing.assert_array_equal(table, np.einsum("ahw,bhw->ab", here.astype(int), there))
    assert (pixels > 0).all()


def test_nothing_overlaps_nothing():
    none = read(np.ones((1, 2, 2), bool)).within(slice(0, 0), slice(0, 2))
    some = read(np.ones((1, 2, 2), bool))
    for left, right in ((none, some), (some, none), (none, none)):
        assert all(not len(part) for part in left.overlaps(right))
    assert not len(none.parts())
    assert not len(merge_runs(none, 2)[0])


@given(SHAPE, st.integers(0, 2**32))
def test_merged_runs_are_the_union(shape, seed):
    first, second = random_masks(shape, seed), random_masks(shape, seed + 1)
    a, b = read(first), read(second)
    both = concatenate([b, a])
    mask, starts, ends = merge_runs(both, shape[1])
    flat = np.zeros((shape[0], shape[1] * shape[2]), int)
    for m, start, end in zip(mask, starts, ends, strict=True):
        flat[m, start:end] += 1
    union = first | second
    np.testing.assert_array_equal(flat, union.transpose(0, 2, 1).reshape(shape[0], -1))
    assert len(starts) == sum(
        np.count_nonzero(np.diff(np.append(0, row)) == 1)
        for row in union.transpose(0, 2, 1).reshape(shape[0], -1).astype(np.int8)
    )


@given(st.integers(1, 30), st.data())
def test_connected_is_that_of_scipy(count, data):
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    node = st.integers(0, count - 1)
    edges = np.array(data.draw(st.lists(st.tuples(node, node), max_size=40)), int).reshape(-1, 2)
    root = components(count, edges[:, 0], edges[:, 1])
    graph = coo_array((np.ones(len(edges)), edges.T), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    np.testing.assert_array_equal(root[:, None] == root, labels[:, None] == labels)
    assert (root <= np.arange(count)).all()


def test_a_damaged_string_is_named():
    with pytest.raises(ValueError, match="segment 2 has a malformed RLE for 4x3 pixels"):
        read_column_runs([encode(np.ones((3, 4))), b"11"], 3, 4)
