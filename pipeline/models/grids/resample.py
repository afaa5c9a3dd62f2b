"""Maps on a model's grid → the picture's pixels, some columns at a time, on any device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .geometry import Axis, Frame
from .maps import Floats, Found

CHUNK = 1 << 26
"""Values at once: 256 MB of float32."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An `Axis` on a device: pixel i is low[i] and high[i] in the shares 1 − weight[i], weight[i].

    Attributes:
        low: n int64, cells.
        high: n int64.
        weight: n float32.
    """

    low: Tensor
    high: Tensor
    weight: Tensor

    def part(self, start: int, stop: int) -> Reading:
        """Pixels start…stop−1."""
        return Reading(self.low[start:stop], self.high[start:stop], self.weight[start:stop])

    def along(self, maps: Tensor, dim: int) -> Tensor:
        """Interpolates one dimension of …×cells×… maps, which becomes pixels."""
        shape = [1] * maps.ndim
        shape[dim] = -1
        return torch.lerp(
            maps.index_select(dim, self.low),
            maps.index_select(dim, self.high),
            self.weight.reshape(shape),
        )


axes_of = lru_cache(maxsize=64)(Frame.axes)
"""`frame.axes(grid_hw)` of (frame, grid_hw), kept for the next picture of the same size."""


@lru_cache(maxsize=64)
def readings(
    frame: Frame, grid_hw: tuple[int, int], device: torch.device
) -> tuple[Reading, Reading]:
    """How the picture's rows and columns are read from a grid; kept for the next of its size."""
    y, x = (_on(axis, device) for axis in axes_of(frame, grid_hw))
    return y, x


def columns_of(maps: Tensor, frame: Frame) -> Iterator[tuple[slice, Tensor]]:
    """Interpolates K×h×w maps to pixels.

    Yields:
        Which columns of the picture, and K×columns×H float32: columns first, as run lengths are.
    """
    y, x = readings(frame, (maps.shape[-2], maps.shape[-1]), maps.device)
    height, width = frame.picture_hw
    step = max(1, CHUNK // max(1, len(maps) * height))
    for start in range(0, width, step):
        some = slice(start, min(start + step, width))
        yield some, window(maps.float(), y, x.part(some.start, some.stop))


def window(maps: Tensor, y: Reading, x: Reading) -> Tensor:
    """Interpolates …×h×w float32 maps to the pixels of `y` and `x`.

    Returns:
        …×columns×rows: columns first, as run lengths are.
    """
    # Along y first, while rows lie whole in memory; only the cells that the columns see.
    first, last = int(x.low[0]), int(x.high[-1]) + 1
    rows = y.along(maps[..., first:last], maps.ndim - 2).transpose(-1, -2).contiguous()
    return Reading(x.low - first, x.high - first, x.weight).along(rows, maps.ndim - 2)


def cells_of(frame: Frame, grid_hw: tuple[int, int]) -> tuple[slice, slice]:
    """The cells of a grid that see the picture, at least one each way."""
    found = []
    for cells, whole, start, content in zip(
        grid_hw, frame.input_hw, frame.offset_yx, frame.content_hw, strict=True
    ):
        first = min(int(start * cells / whole), cells - 1)
        last = max(-(-(start + content) * cells // whole), first + 1)
        found.append(slice(first, last))
    return found[0], found[1]


def read_along(maps: Tensor, axis: Axis, dim: int) -> Tensor:
    """Interpolates one dimension of …×cells×… maps, which becomes pixels."""
    return _on(axis, maps.device).along(maps, dim)


def _on(axis: Axis, device: torch.device) -> Reading:
    return Reading(
        torch.as_tensor(axis.low, dtype=torch.long, device=device),
        torch.as_tensor(axis.high, dtype=torch.long, device=device),
        torch.as_tensor(axis.weight, device=device),
    )


# Scores of semantic segments: means over the cells of the grid that each category wins.

_UNIT = float(1 << 24)


def units(values: Tensor) -> Tensor:
    """Numbers in 0…1 as int64, whose sums do not depend on their order; see `from_units`."""
    return (values.double() * _UNIT).round().long()


def from_units(values: npt.NDArray[np.int64]) -> Floats:
    """Undoes `units`."""
    return values / _UNIT


def found_of(
    cells: npt.NDArray[np.int64],
    probability: npt.NDArray[np.int64],
    largest: Floats,
    agreed: npt.NDArray[np.int64] | None,
) -> Found:
    """What is found in a picture: every category, whether it has pixels or not.

    Args:
        cells: C, that see the picture and where the category is best.
        probability: C, sum of its probability over them, in units.
        largest: C, its largest probability in any cell that sees the picture: the score of one
            that is best between the cells only.
        agreed: C, sum of the agreement over its cells, in units. A category without a cell has
            the mean of all cells.
    """
    number = np.maximum(cells, 1)
    scores = np.where(cells > 0, from_units(probability) / number, largest)
    agreement = None
    if agreed is not None:
        whole = from_units(agreed.sum()) / cells.sum()
        agreement = np.where(cells > 0, from_units(agreed) / number, whole)
    return Found(np.arange(len(cells)), scores, agreement)
