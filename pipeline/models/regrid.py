"""Regrid: what a network says on the grid of one view of a picture, on the grid of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .frame import Axis, Frame

if TYPE_CHECKING:
    from .fit import View


def flipped_back(grid: Tensor, view: View) -> Tensor:
    """…×h×w as the picture lies, from what the network said of a mirrored one."""
    axes = [axis for axis, flipped in zip((-2, -1), view.flip_yx, strict=True) if flipped]
    return grid.flip(axes) if axes else grid


def regrid(grid: Tensor, frame: Frame, onto: Frame, onto_hw: tuple[int, int]) -> Tensor:
    """Reads a grid at the places in the picture where the cells of another grid are.

    Linear between the centres of cells, as `Frame.axes` has them; cells outside the picture get
    what its rim has. A grid that lies as wanted comes back as it is, to the last bit.

    Args:
        grid: …×h×w float, covers the whole input.
        frame: Of that input.
        onto: Another view's frame of the same picture.
        onto_hw: Cells of the other grid.

    Returns:
        …×`onto_hw`, float32 unless it is `grid` itself.
    """
    here_hw = (grid.shape[-2], grid.shape[-1])
    if here_hw == onto_hw and frame == onto:
        return grid
    values = grid.float()
    for side, dim in ((0, -2), (1, -1)):
        axis = _axis(frame, here_hw[side], onto, onto_hw[side], side)
        low, high, weight = (
            torch.from_numpy(each).to(grid.device) for each in (axis.low, axis.high, axis.weight)
        )
        shape = [-1, 1] if dim == -2 else [-1]
        values = torch.lerp(
            values.index_select(dim, low), values.index_select(dim, high), weight.view(shape)
        )
    return values


def _axis(frame: Frame, cells: int, onto: Frame, onto_cells: int, side: int) -> Axis:
    whole, content, start, pixels = _side(onto, side)
    cell = np.arange(onto_cells) + 0.5
    at = (cell * whole / onto_cells - start) * (pixels / content)  # pixels of the picture
    whole, content, start, pixels = _side(frame, side)
    ratio = cells / whole
    at = (at * (content / pixels) + start) * ratio - 0.5
    first, last = start * ratio, (start + content) * ratio - 1
    at = np.clip(at, min(first, cells - 1), max(last, first, 0))
    low = np.floor(at).astype(np.int32)
    high = np.minimum(low + 1, cells - 1).astype(np.int32)
    return Axis(low, high, (at - low).astype(np.float32))


def _side(frame: Frame, side: int) -> tuple[int, int, int, int]:
    return (
        frame.input_hw[side],
        frame.content_hw[side],
        frame.offset_yx[side],
        frame.picture_hw[side],
    )
