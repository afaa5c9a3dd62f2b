"""Large pictures in overlapping tiles: where they lie, and what is kept of each."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from schemas.records import Sample

_COARSEST_STRIDE = 32


@dataclass(frozen=True, slots=True)
class Span:
    """One tile along one side, pixels of the picture.

    Attributes:
        start: First pixel that a model looks at.
        stop: One past the last.
        low: First pixel that is kept of it: the halves of each overlap nearer to the tile's own
            middle.
        high: One past the last.
    """

    start: int
    stop: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of a picture.

    Attributes:
        row: 0… from the top.
        column: 0… from the left.
        y: Its rows of pixels.
        x: Its columns of pixels.
    """

    row: int
    column: int
    y: Span
    x: Span

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of what a model looks at."""
        return self.y.stop - self.y.start, self.x.stop - self.x.start

    @property
    def outer(self) -> tuple[slice, slice]:
        """What a model looks at, as an index of the picture."""
        return slice(self.y.start, self.y.stop), slice(self.x.start, self.x.stop)

    @property
    def inner(self) -> tuple[slice, slice]:
        """What is kept of it, as an index of the picture."""
        return slice(self.y.low, self.y.high), slice(self.x.low, self.x.high)

    @property
    def inner_in_outer(self) -> tuple[slice, slice]:
        """What is kept of it, as an index of the tile."""
        return (
            slice(self.y.low - self.y.start, self.y.high - self.y.start),
            slice(self.x.low - self.x.start, self.x.high - self.x.start),
        )


@dataclass(frozen=True, slots=True)
class TileGrid:
    """The tiles of a picture, row × column.

    Attributes:
        rows: From top to bottom; the kept parts cover the height exactly once.
        columns: From left to right, likewise.
    """

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[Tile]:
        """Column by column, as run-length codes read a picture."""
        for column, x in enumerate(self.columns):
            for row, y in enumerate(self.rows):
                yield Tile(row, column, y, x)


def tile_starts(length: int, *, tile: int, overlap: int, align: int = 1) -> list[int]:
    """First pixels of the tiles along one side: even steps, multiples of `align`.

    A net that halves its resolution sees the same grid in a tile as in the whole picture only
    where the tile starts on a multiple of its stride. Neighbours share at least `overlap` pixels.

    Raises:
        ValueError: The overlap leaves no step, or `tile` is no multiple of `align`.
    """
    if tile % align:
        raise ValueError(f"tile must be a multiple of {align}, got {tile}")
    if not 0 <= overlap <= tile - align:
        raise ValueError(f"overlap must be in 0…{tile - align}, got {overlap}")
    if length <= tile:
        return [0]
    longest = (tile - overlap) // align * align
    steps = -(-(length - tile) // longest)
    return [-(-step * (length - tile) // (steps * align)) * align for step in range(steps + 1)]


def tile_grid(height: int, width: int, *, tile: int, overlap: int, align: int = 1) -> TileGrid:
    """Cuts a picture of HxW pixels.

    Args:
        height: Of the picture, pixels.
        width: Of the picture, pixels.
        tile: Longest side of a tile, pixels. The last of a row may be up to `align` − 1 shorter.
        overlap: Least number of pixels that neighbours share.
        align: Tiles start on multiples of this.

    Raises:
        ValueError: As `tile_starts`.
    """
    return TileGrid(
        _spans(height, tile=tile, overlap=overlap, align=align),
        _spans(width, tile=tile, overlap=overlap, align=align),
    )


def alignment(tile: int, overlap: int) -> int:
    """The coarsest power of two up to 32 on which tiles of this size can start.

    32 is the stride of most nets: a tile's cells then are those of the whole picture.
    """
    align = _COARSEST_STRIDE
    while tile % align or overlap > tile - align:
        align //= 2
    return align


def _spans(length: int, *, tile: int, overlap: int, align: int) -> tuple[Span, ...]:
    starts = tile_starts(length, tile=tile, overlap=overlap, align=align)
    ends = [min(start + tile, length) for start in starts]
    cuts = [0, *((b + a) // 2 for a, b in zip(ends, starts[1:], strict=False)), length]
    return tuple(
        Span(start, end, low, high)
        for start, end, (low, high) in zip(starts, ends, pairwise(cuts), strict=True)
    )


def map_tiles(
    pixels: npt.NDArray[np.uint8],
    function: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]],
    *,
    planes: int,
    tile: int,
    overlap: int,
    align: int = 1,
) -> npt.NDArray[np.float32]:
    """Applies `function` tile by tile; memory beyond the result is one tile's.

    Args:
        pixels: HxWx3.
        function: hxwx3 → planes x h x w, the same h and w.
        planes: How many maps it returns.
        tile: Side of a tile, pixels.
        overlap: How much neighbours share. With half of it above the reach of `function`
            (its receptive field's radius) the result equals that of the whole picture.
        align: Tiles start on multiples of this.

    Returns:
        planes x H x W.
    """
    height, width = pixels.shape[:2]
    out = np.empty((planes, height, width), np.float32)
    for one in tile_grid(height, width, tile=tile, overlap=overlap, align=align):
        y, x = one.inner_in_outer
        out[:, *one.inner] = function(pixels[one.outer])[:, y, x]
    return out


# The edges of a tile at which its picture goes on: what touches them is cut.


@dataclass(frozen=True, slots=True)
class TileEdge:
    """Which edges cut. None of them does where a picture is in one piece.

    Attributes:
        top: The picture goes on above.
        bottom: It goes on below.
        left: It goes on to the left.
        right: It goes on to the right.
    """

    top: bool = False
    bottom: bool = False
    left: bool = False
    right: bool = False

    @classmethod
    def of(cls, sample: Sample) -> TileEdge:
        """The edges of a sample, a tile or not."""
        if sample.whole is None:
            return cls()
        top, left = sample.corner_yx
        height, width = sample.original_hw
        return cls(
            top=top > 0,
            bottom=top + height < sample.whole.shape[0],
            left=left > 0,
            right=left + width < sample.whole.shape[1],
        )

    def labels(self, label_map: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
        """The labels that are cut: such regions are judged once they are whole.

        Args:
            label_map: Of the tile, HxW.

        Returns:
            Ascending, 0 included where it is there.
        """
        sides = (
            (self.top, label_map[0]),
            (self.bottom, label_map[-1]),
            (self.left, label_map[:, 0]),
            (self.right, label_map[:, -1]),
        )
        cut = [label_map[:0, 0], *(labels for inside, labels in sides if inside)]
        return np.unique(np.concatenate(cut))


# PerPicture: what is worked out once for a picture, however many of its tiles ask for it.

T = TypeVar("T")


class PerPicture(Generic[T]):
    """Remembers a function's results as long as the pictures live, and keeps none alive.

    Args:
        function: Of a picture's pixels, which nobody may change meanwhile.
    """

    def __init__(self, function: Callable[[npt.NDArray[np.uint8]], T]) -> None:
        self._function = function
        self._known: dict[int, tuple[weakref.ref[npt.NDArray[np.uint8]], T]] = {}

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> T:
        """The function's result for these pixels."""
        key = id(pixels)
        if key not in self._known:
            reference = weakref.ref(pixels, lambda _: self._known.pop(key, None))
            self._known[key] = reference, self._function(pixels)
        return self._known[key][1]
