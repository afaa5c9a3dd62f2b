"""Runs the kernels that judge and paint SAM's masks: no mask is ever enlarged in memory."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.maps import Ints, Rectangles
from pipeline.models.grids.transfer import upload

from . import sam as kernels
from .dense_launch import on
from .masks_launch import tiles_of

_TILE_XY = (16, 64)
"""Pixels of a program."""

_MASKS = 1 << 15
"""Masks of one launch: a grid's second side ends at 65,535."""


def judge_small(
    small: Tensor, frame: Frame, *, two_steps: bool, threshold: float, offset: float
) -> tuple[Tensor, Tensor]:
    """See `sam_judge.judge`; `small` is M×h×w in any float dtype."""
    masks, rows, columns = small.shape
    small = small.contiguous()
    height, width = frame.picture_hw
    sides = _sides(frame, (rows, columns), two_steps, small.device)
    found = torch.zeros((6, masks), dtype=torch.int32, device=small.device)
    found[2:4], found[4:] = 1 << 30, -1
    extent = _extent(small > threshold - offset)
    down = -(-height // _TILE_XY[1])
    tiles = down * -(-width // _TILE_XY[0])
    with on(small.device):
        for start in range(0, masks, _MASKS):
            some = slice(start, start + _MASKS)
            part = found[:, some].contiguous()
            count = part.shape[1]
            kernels.judge_masks[(tiles, count)](
                *(small[some], extent[some], *sides, part, count),
                *(height, width, rows, columns, down, float(threshold), float(offset)),
                size_x=_TILE_XY[0],
                size_y=_TILE_XY[1],
                two_steps=two_steps,
            )
            found[:, some] = part
    boxes = found[2:].T.long()
    return found[0] / found[1], boxes * (boxes[:, 2:3] >= 0)


def paint_small(
    small: Tensor, frame: Frame, rectangles: Rectangles, *, two_steps: bool, threshold: float
) -> Tensor:
    """Paints each mask inside its rectangle.

    Args:
        small: M×h×w logits.
        frame: Where the picture (or the crop) lies in the input.
        rectangles: M, pixels of that picture.
        two_steps: See `sam_judge.Enlarging`.
        threshold: Logits above are inside.

    Returns:
        The flat uint8 buffer that `rectangles` describes.
    """
    _, rows, columns = small.shape
    small = small.contiguous()
    height, width = frame.picture_hw
    pixels = torch.zeros(rectangles.size, dtype=torch.uint8, device=small.device)
    tiles = tiles_of([rectangles], _TILE_XY)
    if not len(tiles):
        return pixels
    places = np.stack((rectangles.offsets, rectangles.strides), axis=1)
    table = np.concatenate((rectangles.boxes_xywh, places), axis=1)
    masks, blocks = upload(table, tiles, device=small.device)
    with on(small.device):
        kernels.paint_small_kernel[(len(tiles),)](
            *(small, masks, blocks, *_sides(frame, (rows, columns), two_steps, small.device)),
            *(pixels, height, width, rows, columns, float(threshold)),
            size_x=_TILE_XY[0],
            size_y=_TILE_XY[1],
            two_steps=two_steps,
        )
    return pixels


def _extent(above: Tensor) -> Tensor:
    """M×4 int32: first column, first row, last column, last row of each mask; none = 2³⁰, −1."""
    ends = []
    for line in (above.any(1), above.any(2)):
        place = torch.arange(line.shape[1], device=line.device, dtype=torch.int32)
        ends.append(torch.where(line, place, 1 << 30).amin(1))
        ends.append(torch.where(line, place, -1).amax(1))
    left, right, top, bottom = ends
    return torch.stack((left, top, right, bottom), 1).int()


@lru_cache(maxsize=64)
def _sides(
    frame: Frame, grid_hw: tuple[int, int], two_steps: bool, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tables of rows and of columns; kept for the next picture of the same size."""
    found = []
    for pixels, content, whole, cells in zip(
        frame.picture_hw, frame.content_hw, frame.input_hw, grid_hw, strict=True
    ):
        side = _two_steps(pixels, content, whole, cells) if two_steps else _one(pixels, cells)
        found += [
            torch.from_numpy(np.ascontiguousarray(each)).to(device, non_blocking=True)
            for each in side
        ]
    return found[0], found[1], found[2], found[3]


def _two_steps(pixels: int, content: int, whole: int, cells: int) -> tuple[Ints, np.ndarray]:
    first, second, share = _read(pixels, content)
    low, high, weight = _read(whole, cells)
    lines = np.stack((low[first], high[first], low[second], high[second]))
    return lines, np.stack((weight[first], weight[second], share))


def _one(pixels: int, cells: int) -> tuple[Ints, np.ndarray]:
    low, high, weight = _read(pixels, cells)
    return np.stack((low, high, low, high)), np.stack((weight, weight, weight))


def _read(outputs: int, inputs: int) -> tuple[Ints, Ints, np.ndarray]:
    """Cells and weight of each output of `interpolate`, in the float32 that PyTorch computes in."""
    scale = np.float32(inputs) / np.float32(outputs)
    # float64 holds the product: one rounding, as of the multiply-add that a GPU makes of it.
    at = np.float32(np.float64(scale) * (np.arange(outputs) + 0.5) - 0.5)
    at = np.maximum(at, np.float32(0))
    low = at.astype(np.int32)
    return low, np.minimum(low + 1, inputs - 1).astype(np.int32), at - low.astype(np.float32)
