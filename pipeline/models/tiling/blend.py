"""Blender: the semantic maps of overlapping tiles become one map without seams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.masks.rle_writer import RleWriter
from pipeline.models.grids.geometry import Axis
from pipeline.models.grids.outputs import DenseOutput
from pipeline.models.grids.resample import read_along
from pipeline.tiling.grid import Span, Tile, TileGrid
from schemas.records import Segment

Floats = npt.NDArray[np.float32]

_COLUMNS = 64
_AT_ONCE_CPU, _AT_ONCE_GPU = 1 << 20, 1 << 26
"""Logits that are enlarged to pixels at once: what fits a cache, or keeps a GPU busy."""


class Blender:
    """Takes the tiles of one picture in the grid's order.

    Around each seam, over a band half as wide as the overlap, the logits of both tiles are mixed
    linearly; the outermost quarter of an overlap, where a tile sees least, does not count. A pixel
    is decided as soon as all tiles that reach it are there. Kept are the cells that the next tiles
    need, and the labels of one column of tiles: never a map of the picture, and logits at pixels
    only for some rows of a tile.

    A segment's score is the mean probability (softmax; of `probabilities` the value itself, at most
    1) over its pixels.

    Args:
        grid: The tiles.
        overlap: That they share at least, pixels.
        category_ids: Category of each of a model's maps, 0 = none.
        prompts: Category id → the prompt that its segment names.
    """

    def __init__(
        self,
        grid: TileGrid,
        *,
        overlap: int,
        category_ids: Sequence[int],
        prompts: Mapping[int, str],
    ) -> None:
        self._prompts = prompts
        self._rows, self._columns = _zones(grid.rows, overlap), _zones(grid.columns, overlap)
        self._height = grid.rows[-1].stop
        ids = np.asarray(category_ids, np.int64)
        self._ids = np.unique(ids[ids > 0])
        small = np.uint8 if len(self._ids) < 256 else np.uint16
        self._number = np.where(ids > 0, np.searchsorted(self._ids, ids) + 1, 0).astype(small)
        self._writer = RleWriter(len(self._ids), self._height, grid.columns[-1].stop)
        self._sums = np.zeros((len(self._ids) + 1, 3))  # pixels, × score, × agreement
        self._strip = np.zeros((0, self._height), small)  # column by column, 0 = nothing
        self._start = 0  # its first column in the picture
        self._left: list[_Part] = []  # what the next column needs of each tile: its right band
        self._right: list[_Part] = []
        self._above: list[_Part] = []

    def add(self, tile: Tile, output: DenseOutput) -> None:
        """Takes the next tile's maps, in the frame of the tile's own pixels."""
        rows, columns = self._rows[tile.row], self._columns[tile.column]
        width = columns.done - columns.start
        if tile.row == 0:
            self._left, self._right, self._above = self._right, [], []
            self._strip = np.zeros((width, self._height), self._number.dtype)
            self._start = columns.start
        part = _Part.of(tile, output, rows, columns)
        parts = [part, *self._above, *self._left[max(tile.row - 1, 0) : tile.row + 1]]
        at_once = _AT_ONCE_CPU if output.logits.device.type == "cpu" else _AT_ONCE_GPU
        step = max(1, at_once // (len(output.logits) * width))
        for top in range(rows.start, rows.done, step):
            bottom = min(top + step, rows.done)
            self._decide(parts, slice(top, bottom), slice(columns.start, columns.done))
        self._above = [part]
        if columns.done < columns.stop:
            self._right.append(part.from_column(columns.done))
        if tile.row + 1 == len(self._rows):
            self._write()

    def finish(self) -> list[Segment]:
        """One segment a category, by category id."""
        found = []
        for region in self._writer.finish():
            pixels, score, agreement = self._sums[region.label].tolist()
            category_id = int(self._ids[region.label - 1])
            found.append(
                Segment(
                    category_id=category_id,
                    counts=region.counts,
                    area=region.area,
                    bbox_xywh=region.bbox_xywh,
                    score=round(score / pixels, 4),
                    prompt=self._prompts.get(category_id),
                    tta_agreement=None if np.isnan(agreement) else round(agreement / pixels, 4),
                )
            )
        return found

    def _decide(self, parts: Sequence[_Part], y: slice, x: slice) -> None:
        """Labels a window of the picture that nothing but `parts` reaches."""
        height, width = y.stop - y.start, x.stop - x.start
        first = parts[0].output
        logits = torch.zeros((len(first.logits), height, width), device=first.logits.device)
        agreement = None if first.agreement is None else torch.zeros_like(logits[0])
        for part in parts:
            part.mix(logits, "logits", y, x)
            if agreement is not None:
                part.mix(agreement[None], "agreement", y, x)
        best, label = logits.max(0)
        # The softmax of the best alone.
        share = best.clamp(0, 1) if first.probabilities else 1 / logits.sub_(best).exp_().sum(0)
        number = self._number[label.to(torch.int16).cpu().numpy()]
        sure = torch.full_like(share, torch.nan) if agreement is None else agreement
        for column, each in enumerate((torch.ones_like(share), share, sure)):
            weights = each.cpu().numpy().reshape(-1)
            sums = np.bincount(number.reshape(-1), weights, minlength=len(self._sums))
            self._sums[:, column] += sums
        left = x.start - self._start
        self._strip[left : left + width, y] = number.T

    def _write(self) -> None:
        """Makes runs of the strip, some columns at a time, and frees it."""
        for first in range(0, len(self._strip), _COLUMNS):
            flat = self._strip[first : first + _COLUMNS].reshape(-1)
            edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
            begins, ends = np.append(0, edges), np.append(edges, len(flat))
            number = flat[begins].astype(np.int64)
            order = np.argsort(number, kind="stable")
            order = order[number[order] > 0]
            offset = (self._start + first) * self._height
            self._writer.write(number[order] - 1, begins[order] + offset, ends[order] + offset)
        self._strip = self._strip[:0].copy()


@dataclass(frozen=True, slots=True)
class _Zone:
    """The part of a tile's span that counts, pixels of the picture.

    Attributes:
        start: First pixel.
        stop: One past the last.
        done: First pixel that the next tile takes part in; `stop` for the last tile.
        rise: So many pixels from `start` on the tile before takes part in.
    """

    start: int
    stop: int
    done: int
    rise: int

    def weights(self) -> Floats:
        """The tile's share in each pixel, 0…1; with its neighbours' it makes 1."""
        weights = np.ones(self.stop - self.start, np.float32)
        weights[: self.rise] = _ramp(self.rise)
        weights[self.done - self.start :] = 1 - _ramp(self.stop - self.done)
        return weights


def _ramp(length: int) -> Floats:
    return ((np.arange(length) + 0.5) / max(length, 1)).astype(np.float32)


def _zones(spans: Sequence[Span], overlap: int) -> list[_Zone]:
    half = [
        min(overlap // 4, (a.high - a.low) // 2, (b.high - b.low) // 2)  # bands never meet
        for a, b in pairwise(spans)
    ]
    return [
        _Zone(span.low - before, span.high + after, span.high - after, 2 * before)
        for span, (before, after) in zip(spans, pairwise([0, *half, 0]), strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Part:
    """What a tile says about a window of the picture.

    Attributes:
        output: Its maps, on its grid.
        top: First row of the window, pixels of the picture.
        left: First column.
        y: How the window's rows are read from the grid.
        x: How its columns are.
        share_y: The tile's share in each row.
        share_x: In each column.
    """

    output: DenseOutput
    top: int
    left: int
    y: Axis
    x: Axis
    share_y: Floats
    share_x: Floats

    @classmethod
    def of(cls, tile: Tile, output: DenseOutput, rows: _Zone, columns: _Zone) -> _Part:
        _, height, width = output.logits.shape
        y, x = output.frame.axes((height, width))
        return cls(
            output,
            rows.start,
            columns.start,
            _cut(y, rows.start - tile.y.start, rows.stop - tile.y.start),
            _cut(x, columns.start - tile.x.start, columns.stop - tile.x.start),
            rows.weights(),
            columns.weights(),
        )

    def from_column(self, first: int) -> _Part:
        """The window from a column on, with no more cells than that needs."""
        x = _cut(self.x, first - self.left, len(self.x.low))
        low, high = int(x.low.min()), int(x.high.max()) + 1
        agreement = self.output.agreement
        output = replace(
            self.output,
            logits=self.output.logits[..., low:high].clone(),
            agreement=None if agreement is None else agreement[..., low:high].clone(),
        )
        return replace(
            self,
            output=output,
            left=first,
            x=Axis(x.low - low, x.high - low, x.weight),
            share_x=self.share_x[first - self.left :],
        )

    def mix(self, into: Tensor, name: str, y: slice, x: slice) -> None:
        """Adds the tile's share of its logits or agreement.

        Args:
            into: C×(rows of y)×(columns of x), changed.
            name: Of the field of `output`.
            y: Rows of the picture.
            x: Columns of the picture.
        """
        top, bottom = max(y.start, self.top), min(y.stop, self.top + len(self.share_y))
        left, right = max(x.start, self.left), min(x.stop, self.left + len(self.share_x))
        if top >= bottom or left >= right:
            return
        cells = getattr(self.output, name).reshape(len(into), *self.output.logits.shape[-2:])
        rows, columns = (top - self.top, bottom - self.top), (left - self.left, right - self.left)
        values = read_along(cells.float(), _cut(self.y, *rows), 1)
        values = read_along(values, _cut(self.x, *columns), 2)
        share = np.outer(self.share_y[slice(*rows)], self.share_x[slice(*columns)])
        if (share != 1).any():
            values *= torch.from_numpy(share).to(values.device)
        into[:, top - y.start : bottom - y.start, left - x.start : right - x.start] += values


def _cut(axis: Axis, start: int, stop: int) -> Axis:
    return Axis(axis.low[start:stop], axis.high[start:stop], axis.weight[start:stop])
