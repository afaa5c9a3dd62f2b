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
        over_x = m[0, 0] * x + m[0, 1] * y + m[0, 2]
        over_y = m[1, 0] * x + m[1, 1] * y + m[1, 2]
        if self.affine:
            return over_x, over_y
        under = m[2, 0] * x + m[2, 1] * y + m[2, 2]
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
            out[rows, columns] = tile
            inside = _inside(x, y, bottom - top, right - left)
            if not inside.all():
                out[rows, columns][~inside] = fill
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
            # A hair below the last half rounds up to a column that is not there.
            column = np.minimum(np.floor(x + np.float32(0.5)).astype(np.int32), right - left - 1)
            row = np.minimum(np.floor(y + np.float32(0.5)).astype(np.int32), bottom - top - 1)
            inside = _inside(x, y, bottom - top, right - left)
            if inside.all():
                out[rows, columns] = source[row, column]
            else:
                out[rows, columns][inside] = source[row[inside], column[inside]]
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
            x = np.clip(x - np.float32(left), -_LONGEST, _LONGEST)
            y = np.clip(y - np.float32(top), -_LONGEST, _LONGEST)
            yield rows, columns, x, y, (top, left, bottom, right)


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
    """y and x of every pixel, float32."""
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
    x = np.arange(columns.start, columns.stop, dtype=np.float32)[None]
    shape = (y.shape[0], x.shape[1])
    return np.broadcast_to(y, shape), np.broadcast_to(x, shape)


def _reach(positions: Floats, length: int) -> tuple[int, int]:
    """First and one past the last source pixel that these positions touch."""
    least, most = float(positions.min()), float(positions.max())
    low, high = int(max(least - 2, 0)), int(min(max(most + 3, -1), length))
    return min(low, length), max(high, 0)
