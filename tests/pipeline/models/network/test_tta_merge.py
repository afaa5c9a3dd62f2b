"""Grids of several views, cell on cell."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from pipeline.models.grids.geometry import FitRule, Frame, Padding, Size
from pipeline.models.network.fit import View
from pipeline.models.network.tta_merge import flipped_back, regrid

RULE = FitRule(size=Size("shortest", 64, 128), padding=Padding(divisor=32))


def plain(picture: tuple[int, int], grid: tuple[int, int]) -> Frame:
    return Frame(picture_hw=picture, content_hw=grid, input_hw=grid)


def test_a_grid_that_lies_as_wanted_is_itself():
    frame = plain((30, 40), (8, 9))
    grid = torch.randn(2, 8, 9)
    assert regrid(grid, frame, frame, (8, 9)) is grid


@pytest.mark.parametrize(
    ("here", "there"), [((7, 11), (14, 33)), ((20, 9), (11, 9)), ((1, 1), (3, 2))]
)
def test_without_padding_it_is_torchs_own_interpolation(here, there):
    grid = torch.randn(3, *here)
    found = regrid(grid, plain((50, 60), here), plain((50, 60), there), there)
    expected = interpolate(grid[None], there, mode="bilinear")[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def ramp(frame: Frame, hw: tuple[int, int]) -> torch.Tensor:
    """Each cell holds the place in the picture of its centre, (y, x) in pixels."""
    sides = [
        ((np.arange(cells) + 0.5) * whole / cells - start) * pixels / content
        for cells, whole, start, pixels, content in zip(
            hw, frame.input_hw, frame.offset_yx, frame.picture_hw, frame.content_hw, strict=True
        )
    ]
    return torch.from_numpy(np.stack(np.meshgrid(*sides, indexing="ij"))).float()


@pytest.mark.parametrize("scale", [0.75, 1.25, 2.0])
@pytest.mark.parametrize("flip_yx", [(False, False), (False, True), (True, True)])
@pytest.mark.parametrize("picture", [(37, 53), (100, 71), (64, 64), (9, 31)])
def test_every_cell_reads_its_own_place(picture, flip_yx, scale: float):
    """Padded, mirrored and scaled views: what lies at a place is read at that place."""
    onto = RULE.frame(picture)
    frame = RULE.frame(picture, scale=scale, flip_yx=flip_yx)
    here = tuple(side // 4 for side in frame.input_hw)
    there = tuple(side // 4 for side in onto.input_hw)
    found = regrid(ramp(frame, here), frame, onto, there)
    wanted = ramp(onto, there)
    cell = [
        4 * pixels / min(sides)
        for pixels, *sides in zip(picture, onto.content_hw, frame.content_hw, strict=True)
    ]
    for side in (0, 1):
        inside = (wanted[side] > cell[side]) & (wanted[side] < picture[side] - cell[side])
        error = (found[side] - wanted[side])[inside].abs()
        assert error.numel() == 0 or error.max() < 1e-3 * picture[side]
        assert found[side].min() >= -cell[side]  # nothing is read from the padding
        assert found[side].max() <= picture[side] + cell[side]


@pytest.mark.parametrize("flip_yx", [(False, True), (True, False), (True, True)])
def test_mirrored_twice_is_as_before(flip_yx):
    grid = torch.arange(24.0).view(2, 3, 4)
    once = flipped_back(grid, View(flip_yx=flip_yx))
    assert not torch.equal(once, grid)
    assert torch.equal(flipped_back(once, View(flip_yx=flip_yx)), grid)
    assert torch.equal(flipped_back(grid, View()), grid)


def test_left_and_right_are_the_last_side():
    grid = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert flipped_back(grid, View(flip_yx=(False, True))).tolist() == [[2, 1], [4, 3]]
