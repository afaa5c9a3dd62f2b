"""Who wins each pixel, the plain way, against arithmetic pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from random_outputs import frame_of, noise, smooth

from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.maps import Rules, label_dtype
from pipeline.models.postprocess import winners as module
from pipeline.models.postprocess.winners import plain_winners


def by_hand(maps: torch.Tensor, frame: Frame) -> np.ndarray:
    """K×H×W float64, from the definition: pixel centres, half cells, held inside the content."""
    grid = maps.double().numpy()
    values = np.empty((len(grid), *frame.picture_hw))
    for row in range(frame.picture_hw[0]):
        for column in range(frame.picture_hw[1]):
            at, cells = [], []
            for side, pixel in enumerate((row, column)):
                size, whole = frame.content_hw[side], frame.input_hw[side]
                start, count = frame.offset_yx[side], grid.shape[side + 1]
                inside = (pixel + 0.5) * size / frame.picture_hw[side] + start
                first, last = start * count / whole, (start + size) * count / whole - 1
                place = min(max(inside * count / whole - 0.5, first), max(last, first))
                low = min(int(place), count - 1)
                at.append(place - low)
                cells.append((low, min(low + 1, count - 1)))
            (y0, y1), (x0, x1) = cells
            top = grid[:, y0, x0] * (1 - at[1]) + grid[:, y0, x1] * at[1]
            low = grid[:, y1, x0] * (1 - at[1]) + grid[:, y1, x1] * at[1]
            values[:, row, column] = top * (1 - at[0]) + low * at[0]
    return values


SIZES = [
    ((13, 17), (4, 5)),
    ((40, 9), (7, 3)),
    ((5, 6), (11, 12)),
    ((1, 1), (3, 3)),
    ((3, 29), (1, 1)),
]


@pytest.mark.parametrize("content", [1.0, 0.7])
@pytest.mark.parametrize(("picture_hw", "grid_hw"), SIZES)
def test_values_compete_after_interpolation(picture_hw, grid_hw, content):
    maps = noise(np.random.default_rng(1), 6, grid_hw, 1.0)
    frame = frame_of(picture_hw, grid_hw, content)
    values = by_hand(maps, frame)
    best = np.sort(values, axis=0)
    clear = best[-1] - best[-2] > 1e-5
    labels = plain_winners(maps, frame).labels.T.numpy()
    assert labels.shape == picture_hw
    assert (labels == values.argmax(0) + 1)[clear].all()


@pytest.mark.parametrize(("picture_hw", "grid_hw"), SIZES)
def test_queries_compete_by_score_and_own_what_reaches_the_threshold(picture_hw, grid_hw):
    maps = smooth(np.random.default_rng(2), 5, grid_hw, 3.0)
    scores = torch.tensor([0.9, 0.6, 0.99, 0.7, 0.8])
    frame = frame_of(picture_hw, grid_hw, 0.8)
    found = plain_winners(maps, frame, Rules(scores, 0.45))
    values = scores.numpy()[:, None, None] / (1 + np.exp(-by_hand(maps, frame)))
    assert (found.labels.T.numpy() == values.argmax(0) + 1).all()
    assert found.own.tolist() == (values >= 0.45).sum((1, 2)).tolist()
    counted = np.bincount(values.argmax(0).ravel(), minlength=5)
    assert found.visible.tolist() == counted.tolist()


def test_the_first_of_equals_wins():
    maps = torch.zeros((3, 4, 4))
    maps[1:, :2] = 1
    labels = plain_winners(maps, Frame((8, 8), (16, 16), (16, 16))).labels.T
    assert (labels[:4] == 2).all()
    assert (labels[6:] == 1).all()


def test_strips_give_the_same(monkeypatch):
    maps = smooth(np.random.default_rng(3), 4, (6, 9), 3.0)
    frame, rules = frame_of((31, 47), (6, 9)), Rules(torch.ones(4), 0.5)
    whole = plain_winners(maps, frame, rules)
    monkeypatch.setattr(module, "_STRIP", {"cpu": 31 * 5})
    parts = plain_winners(maps, frame, rules)
    assert torch.equal(parts.labels, whole.labels)
    assert (parts.visible == whole.visible).all()
    assert (parts.own == whole.own).all()


def test_many_maps_need_wider_labels():
    assert label_dtype(255) == torch.uint8
    assert label_dtype(256) == torch.int16
    maps = torch.zeros((300, 2, 2))
    maps[299] = 1
    labels = plain_winners(maps, Frame((3, 3), (8, 8), (8, 8))).labels
    assert labels.dtype == torch.int16
    assert (labels == 300).all()
