"""Grids → pixels: PyTorch's own interpolation inside the content, nothing from the padding."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from pipeline.models.grids import resample
from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.resample import cells_of, columns_of, read_along, readings, window

SIDE = st.integers(1, 13)
PIXELS = st.integers(1, 37)


def whole(maps: torch.Tensor, frame: Frame) -> torch.Tensor:
    """K×H×W."""
    return torch.cat([values for _, values in columns_of(maps, frame)], 1).transpose(1, 2)


@settings(max_examples=60)
@given(st.integers(0, 99), SIDE, SIDE, PIXELS, PIXELS, SIDE, SIDE, st.integers(0, 3))
def test_content_is_interpolated_as_if_there_were_no_padding(seed, h, w, high, wide, y, x, more):
    rng = torch.Generator().manual_seed(seed)
    maps = torch.full((2, y + h + more, x + w + more), 1e6)
    maps[:, y : y + h, x : x + w] = torch.randn((2, h, w), generator=rng)
    cell = 4
    frame = Frame(
        (high, wide),
        (h * cell, w * cell),
        (maps.shape[1] * cell, maps.shape[2] * cell),
        (y * cell, x * cell),
    )
    expected = interpolate(maps[None, :, y : y + h, x : x + w], (high, wide), mode="bilinear")[0]
    torch.testing.assert_close(whole(maps, frame), expected, rtol=0, atol=1e-5)


def test_chunks_of_columns_give_the_same(monkeypatch):
    maps = torch.randn((3, 5, 7))
    frame = Frame((21, 30), (20, 28), (20, 28))
    at_once = whole(maps, frame)
    monkeypatch.setattr(resample, "CHUNK", 3 * 21 * 4)
    parts = list(columns_of(maps, frame))
    assert [part.stop - part.start for part, _ in parts] == [4] * 7 + [2]
    assert torch.equal(whole(maps, frame), at_once)


def test_a_window_is_that_part_of_the_whole():
    maps = torch.randn((2, 6, 9))
    frame = Frame((40, 50), (22, 33), (24, 36), (1, 2))
    y, x = readings(frame, (6, 9), maps.device)
    part = window(maps, y.part(7, 19), x.part(31, 50))
    assert torch.equal(part, whole(maps, frame).transpose(1, 2)[:, 31:50, 7:19])


def test_read_along_reads_one_dimension():
    maps = torch.arange(12.0).reshape(3, 4)
    y, x = Frame((6, 8), (12, 16), (12, 16)).axes((3, 4))
    assert read_along(maps, y, 0).shape == (6, 4)
    assert read_along(maps, x, 1)[0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]


def test_cells_of_are_those_that_the_picture_lies_on():
    frame = Frame((50, 50), (13, 16), (40, 40), (8, 5))
    assert cells_of(frame, (10, 10)) == (slice(2, 6), slice(1, 6))
    assert cells_of(Frame((5, 5), (1, 1), (40, 40), (39, 39)), (10, 10)) == (
        slice(9, 10),
        slice(9, 10),
    )


def test_bfloat16_maps_are_read_in_float32():
    maps = torch.randn((1, 4, 4)).bfloat16()
    frame = Frame((9, 9), (16, 16), (16, 16))
    expected = interpolate(maps.float()[None], (9, 9), mode="bilinear")[0]
    assert np.allclose(whole(maps, frame), expected, atol=1e-6)
