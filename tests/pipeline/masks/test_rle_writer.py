"""Strings written piece by piece are those of pycocotools, to the last byte."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from pipeline.masks.codec import Region
from pipeline.masks.rle_writer import RleWriter


def runs_of(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat = np.concatenate(([0], mask.T.reshape(-1), [0])).astype(np.int8)
    step = np.diff(flat)
    return np.flatnonzero(step == 1), np.flatnonzero(step == -1)


def written(masks: np.ndarray, cuts: list[int]) -> list[Region]:
    """`masks` (n×H×W) through a writer, in bands of columns."""
    count, height, width = masks.shape
    writer = RleWriter(count, height, width)
    bounds = [0, *sorted(cuts), width]
    for left, right in itertools.pairwise(bounds):
        parts = [runs_of(mask[:, left:right]) for mask in masks]
        owner = np.repeat(np.arange(count), [len(starts) for starts, _ in parts])
        starts, ends = (np.concatenate(both) for both in zip(*parts, strict=True))
        writer.write(owner, starts + left * height, ends + left * height)
    return list(writer.finish())


@given(
    st.integers(1, 9),
    st.integers(1, 12),
    st.integers(1, 4),
    st.sampled_from([0.02, 0.3, 0.5, 0.9, 1.0]),
    st.data(),
)
def test_bytes_areas_and_boxes_are_those_of_pycocotools(height, width, count, share, data):
    seed = data.draw(st.integers(0, 2**32))
    cuts = data.draw(st.lists(st.integers(0, width), max_size=4))
    masks = np.random.default_rng(seed).random((count, height, width)) < share
    regions = written(masks, cuts)
    assert [region.label - 1 for region in regions] == np.flatnonzero(masks.any((1, 2))).tolist()
    for region in regions:
        code = coco_mask.encode(np.asfortranarray(masks[region.label - 1], np.uint8))
        assert region.counts == code["counts"]
        assert region.area == coco_mask.area(code)
        assert list(region.bbox_xywh) == coco_mask.toBbox(code).tolist()


@pytest.mark.parametrize("column", [0, 1, 400])
def test_a_mask_of_many_runs_is_one_string(column: int) -> None:
    """More numbers than are written at once."""
    mask = np.zeros((1, 1200, 900), bool)
    mask[0, ::2] = True
    mask[0, 7, 5:] = True
    (region,) = written(mask, [column])
    assert region.counts == coco_mask.encode(np.asfortranarray(mask[0], np.uint8))["counts"]


def test_nothing_written_is_no_region() -> None:
    writer = RleWriter(3, 5, 5)
    none = np.zeros(0, np.int64)
    writer.write(none, none, none)
    assert list(writer.finish()) == []
