"""Cells settled at once give what the plain way gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_outputs import frame_of, noise, smooth

from pipeline.models.grids.maps import Rules, Winners
from pipeline.models.grids.resample import columns_of
from pipeline.models.postprocess import cells as module
from pipeline.models.postprocess.cells import cell_winners, points_first
from pipeline.models.postprocess.winners import plain_winners


def assert_same(maps: torch.Tensor, frame, rules: Rules | None) -> Winners:
    """Labels may differ where the two best values are closer than 1e-5."""
    mine, plain = cell_winners(maps, frame, rules), plain_winners(maps, frame, rules)
    differ = mine.labels != plain.labels
    if differ.any():
        values = torch.cat([part for _, part in columns_of(maps, frame)], 1)
        if rules is not None:
            values = values.sigmoid() * rules.scores[:, None, None]
        top = values.topk(2, dim=0).values
        assert (top[0] - top[1])[differ].max() < 1e-5
    else:
        assert (mine.visible == plain.visible).all()
    assert mine.labels.dtype == plain.labels.dtype
    return mine


@settings(max_examples=80)
@given(
    seed=st.integers(0, 10**6),
    grid_hw=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    picture_hw=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    count=st.integers(1, 9),
    rough=st.booleans(),
    content=st.sampled_from([1.0, 0.83, 0.4]),
    rules=st.sampled_from([None, 0.3, 0.5, 0.9]),
)
def test_same_winners_and_counts(seed, grid_hw, picture_hw, count, rough, content, rules):
    rng = np.random.default_rng(seed)
    maps = (noise if rough else smooth)(rng, count, grid_hw, 5.0)
    scores = torch.from_numpy(rng.uniform(0.5, 1, count).astype(np.float32))
    frame = frame_of(picture_hw, grid_hw, content)
    found = assert_same(maps, frame, None if rules is None else Rules(scores, rules))
    if rules is not None:
        assert found.visible.sum() == picture_hw[0] * picture_hw[1]
        plain = plain_winners(maps, frame, Rules(scores, rules)).own
        assert np.abs(found.own - plain).max() <= 1  # a value at the threshold itself


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_whatever_is_interpolated_sparsely(monkeypatch, share):
    """0: every strip goes the plain way; 1: none does."""
    monkeypatch.setattr(module, "_SPARSE", share)
    monkeypatch.setattr(module, "_STRIP", 900)
    rng = np.random.default_rng(5)
    for draw in (smooth, noise):
        maps = draw(rng, 7, (9, 8), 4.0)
        assert_same(maps, frame_of((61, 83), (9, 8)), Rules(torch.linspace(0.5, 1, 7), 0.5))
        assert_same(maps, frame_of((61, 83), (9, 8)), None)


def test_smooth_regions_are_not_interpolated_everywhere(monkeypatch):
    """The whole point: nearly all cells are settled by their corners."""
    asked = []
    settle = module.settle
    monkeypatch.setattr(module, "strip_winners", lambda *_: pytest.fail("not sparse"))
    monkeypatch.setattr(
        module,
        "settle",
        lambda pixels, cells, *rest: (
            asked.append((cells.work(16), len(pixels))) or settle(pixels, cells, *rest)
        ),
    )
    bumps = smooth(np.random.default_rng(0), 10, (60, 80), 8.0)
    best, second = bumps.topk(2, dim=0).values
    maps = 8 * (bumps - torch.where(bumps == best, second, best))  # regions with clear borders
    frame = frame_of((240, 320), (60, 80))
    cell_winners(maps, frame)
    cell_winners(maps, frame, Rules(torch.ones(10), 0.5))
    interpolated, pixels = np.array(asked).sum(0)
    assert interpolated < 0.1 * 10 * pixels


def test_equal_values_go_to_the_first():
    rng = np.random.default_rng(2)
    maps = torch.from_numpy(rng.integers(0, 3, (5, 6, 6)).astype(np.float32))
    frame = frame_of((6, 6), (6, 6))
    assert torch.equal(cell_winners(maps, frame).labels.T, maps.argmax(0).to(torch.uint8) + 1)


def test_more_than_255_maps():
    assert_same(
        smooth(np.random.default_rng(4), 300, (5, 5), 4.0), frame_of((23, 19), (5, 5)), None
    )


def test_points_first_keeps_values():
    maps = torch.randn((3, 4, 5))
    assert np.array_equal(points_first(maps), maps.permute(1, 2, 0).numpy())
    view = maps.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert np.shares_memory(points_first(view), view.numpy())
