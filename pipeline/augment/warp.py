"""Warp: any chain of geometry as one resampling, of a picture and of its label maps alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Labels = TypeVar("Labels", bound=np.integer[Any])

_TILE = 1024
_LONGEST = 32_000
"""Sides that `cv2.remap` can address, less a margin."""
_FAR = 1 << 24
_FIELD = 1024
_TIE = np.float32(2**-10)
"""Half-way positions all go the same way: to even ones, every other row would be there twice."""
_AS: dict[int, type[np.uint8 | np.uint16 | np.float32]] = {1: np.uint8, 2: np.uint16, 4: np.float32}
"""Bytes of a label → a type that `cv2.remap` copies bit by bit."""
_VISIBLE_BLUR = 0.3


@dataclass(frozen=True, slots=True)
class Linear:
    """A step that is a 3x3 matrix: homogeneous (x, y, 1) of its result → of what it is given."""

    matrix: npt.NDArray[np.float64]

    @property
    def affine(self) -> bool:
        """Whether parallels stay parallel."""
        return bool(np.array_equal(self.matrix[2], (0.0, 0.0, 1.0)))

    def back(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Positions in what it is given, from positions in its result."""
        m = self.matrix.astype(np.float32)
        # Of a row of x and a column of y only the sums are as large as the picture.
        over_x = (m[0, 0] * x + m[0, 2]) + m[0, 1] * y
        over_y = (m[1, 0] * x + m[1, 2]) + m[1, 1] * y
        if self.affine:
            return over_x, over_y
        under = (m[2, 0] * x + m[2, 2]) + m[2, 1] * y
        behind = under < 1e-4  # beyond the horizon: nothing is there
        under[behind] = 1.0
        over_x[behind] = over_y[behind] = -_FAR
        return over_x / under, over_y / under


@dataclass(frozen=True, slots=True)
class Bend:
    """A step that shifts every position by a smooth field.

    Attributes:
        points: Gy x Gx x 2 float32 (dx, dy) in pixels, spread evenly over the frame.
        size_hw: Of the frame.
    """

    points: Floats
    size_hw: tuple[int, int]
    affine = False

    def back(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Positions in what it is given, from positions in its result."""
        x, y = np.broadcast_arrays(x, y)
        height, width = self.size_hw
        tall, wide = min(height, _FIELD), min(width, _FIELD)
        field = cv2.resize(self.points, (wide, tall), interpolation=cv2.INTER_CUBIC)
        at_x = (x + 0.5) * np.float32(wide / width) - np.float32(0.5)
        at_y = (y + 0.5) * np.float32(tall / height) - np.float32(0.5)
        shift = cv2.remap(
            field,
            np.clip(at_x, 0, wide - 1),
            np.clip(at_y, 0, tall - 1),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return x + shift[..., 0], y + shift[..., 1]


Move = Linear | Bend


@dataclass(frozen=True, slots=True)
class Warp:
    """Where the pixels of a result come from.

    What one move pushes out of the frame a later one may bring back: nothing is cut between them.

    Attributes:
        moves: In the order in which they are done; neighbouring matrices are multiplied.
        source_hw: Of what is warped.
        size_hw: Of the result.
    """

    moves: tuple[Move, ...]
    source_hw: tuple[int, int]
    size_hw: tuple[int, int]

    @classmethod
    def of(cls, moves: list[Move], source_hw: tuple[int, int], size_hw: tuple[int, int]) -> Warp:
        """The warp of these moves; see the attributes."""
        merged: list[Move] = []
        for move in moves:
            last = merged[-1] if merged else None
            if isinstance(move, Linear) and isinstance(last, Linear):
                merged[-1] = Linear(last.matrix @ move.matrix)
            else:
                merged.append(move)
        return cls(tuple(merged), source_hw, size_hw)

    def picture(self, pixels: Pixels, fill: tuple[int, int, int]) -> Pixels:
        """The warped picture, linear between pixels, low-passed first where it shrinks.

        Args:
            pixels: HxWx3 uint8 of `source_hw`.
            fill: Of positions outside of it.
        """
        sigma = 0.5 * max(self._shrink() ** 2 - 1, 0.0) ** 0.5
        if sigma > _VISIBLE_BLUR:
            pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), np.uint8)
        out = np.empty((*self.size_hw, 3), np.uint8)
        for rows, columns, x, y, corner in self._tiles():
            top, left, bottom, right = corner
            if bottom <= top or right <= left:
                out[rows, columns] = fill
                continue
            # Up to half a pixel beyond the centres the edge is repeated, or enlarging would draw a
            # dark rim around the picture.
            tile = cv2.remap(
                pixels[top:bottom, left:right],
                x,
                y,
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            outside = np.flatnonzero(~_inside(x, y, bottom - top, right - left))
            if len(outside):
                tile.reshape(-1, 3)[outside] = fill
            out[rows, columns] = tile
        return out

    def labels(self, label_map: npt.NDArray[Labels], fill: int) -> npt.NDArray[Labels]:
        """The warped map: each pixel the value of the nearest one, at the picture's positions.

        Args:
            label_map: HxW integers of `source_hw`.
            fill: Of positions outside of it.

        Returns:
            The same type.
        """
        out = np.full(self.size_hw, fill, label_map.dtype)
        for rows, columns, x, y, corner in self._tiles():
            top, left, bottom, right = corner
            if bottom <= top or right <= left:
                continue
            source = label_map[top:bottom, left:right]
            tile = _nearest(source, x + _TIE, y + _TIE)
            outside = np.flatnonzero(~_inside(x, y, bottom - top, right - left))
            if len(outside):
                tile.reshape(-1)[outside] = fill
            out[rows, columns] = tile
        return out

    def density(self) -> float | Floats:
        """Source pixels that a pixel of the result stands for; HxW float32 where it varies."""
        if all(move.affine for move in self.moves):
            return self._shrink() ** 2
        out = np.empty(self.size_hw, np.float32)
        for rows, columns in _cut(*self.size_hw):
            y, x = _grid(rows, columns)
            half = np.float32(0.5)
            east, west = self._back(x + half, y), self._back(x - half, y)
            south, north = self._back(x, y + half), self._back(x, y - half)
            across = east[0] - west[0], east[1] - west[1]
            down = south[0] - north[0], south[1] - north[1]
            out[rows, columns] = np.abs(across[0] * down[1] - across[1] * down[0])
        return out

    def forward(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Where Nx2 (x, y) of the source come to lie; bends are left out."""
        matrix = np.eye(3)
        for move in self.moves:
            if isinstance(move, Linear):
                matrix = matrix @ move.matrix
        there = np.c_[points, np.ones(len(points))] @ np.linalg.inv(matrix).T
        return there[:, :2] / there[:, 2:]

    def _shrink(self) -> float:
        """Source pixels along a side of a pixel of the result, in the middle."""
        height, width = self.size_hw
        x = np.array([[-0.5, 0.5], [0.0, 0.0]]) + (width - 1) / 2
        y = np.array([[0.0, 0.0], [-0.5, 0.5]]) + (height - 1) / 2
        at = np.stack([x, y, np.ones_like(x)])
        for move in reversed(self.moves):
            if isinstance(move, Linear):
                at = np.einsum("ij,jkl->ikl", move.matrix, at)
                if (at[2] < 1e-4).any():  # the horizon runs through the middle
                    return 1.0
                at /= at[2]
        (across_x, down_x), (across_y, down_y) = (
            at[0, :, 1] - at[0, :, 0],
            (at[1, :, 1] - at[1, :, 0]),
        )
        return float(abs(across_x * down_y - across_y * down_x)) ** 0.5

    def _back(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        for move in reversed(self.moves):
            x, y = move.back(x, y)
        return x, y

    def _tiles(
        self,
    ) -> Iterator[tuple[slice, slice, Floats, Floats, tuple[int, int, int, int]]]:
        """Rows, columns, source x, y from a corner, and the source's rectangle (t, l, b, r)."""
        waiting = list(_cut(*self.size_hw))
        while waiting:
            rows, columns = waiting.pop()
            y, x = _grid(rows, columns)
            x, y = self._back(x, y)
            left, right = _reach(x, self.source_hw[1])
            top, bottom = _reach(y, self.source_hw[0])
            if max(right - left, bottom - top) > _LONGEST:
                waiting.extend(_quarters(rows, columns))
                continue
            x, y = _from(x, left), _from(y, top)
            yield rows, columns, x, y, (top, left, bottom, right)


def _nearest(source: npt.NDArray[Labels], x: Floats, y: Floats) -> npt.NDArray[Labels]:
    """The values at the pixels nearest to these positions, those outside at its edge."""
    kind = _AS.get(source.dtype.itemsize)
    if kind is not None:
        bits = np.ascontiguousarray(source).view(kind)
        found = cv2.remap(bits, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(found, kind).view(source.dtype)
    row = np.clip(np.rint(y), 0, source.shape[0] - 1).astype(np.int32)
    column = np.clip(np.rint(x), 0, source.shape[1] - 1).astype(np.int32)
    return source[row, column]


def _inside(x: Floats, y: Floats, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Which positions are nearest to a pixel of the source, the same for pixels and labels."""
    half = np.float32(0.5)
    return (x >= -half) & (x < width - half) & (y >= -half) & (y < height - half)


def _cut(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            yield (
                slice(top, min(top + _TILE, height)),
                slice(left, min(left + _TILE, width)),
            )


def _quarters(rows: slice, columns: slice) -> list[tuple[slice, slice]]:
    def halves(span: slice) -> list[slice]:
        middle = (span.start + span.stop + 1) // 2
        cut = [slice(span.start, middle), slice(middle, span.stop)]
        return [part for part in cut if part.stop > part.start]

    return [(upper, side) for upper in halves(rows) for side in halves(columns)]


def _grid(rows: slice, columns: slice) -> tuple[Floats, Floats]:
    """y as a column and x as a row, float32."""
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
    x = np.arange(columns.start, columns.stop, dtype=np.float32)[None]
    return y, x


def _from(positions: Floats, first: int) -> Floats:
    """Positions counted from `first`, as far as `cv2.remap` can tell them apart."""
    if first:
        positions = positions - np.float32(first)
    if max(-float(positions.min()), float(positions.max())) > _LONGEST:
        positions = np.clip(positions, -_LONGEST, _LONGEST)
    return positions


def _reach(positions: Floats, length: int) -> tuple[int, int]:
    """First and one past the last source pixel that these positions touch."""
    least, most = float(positions.min()), float(positions.max())
    low, high = int(max(least - 2, 0)), int(min(max(most + 3, -1), length))
    return min(low, length), max(high, 0)
