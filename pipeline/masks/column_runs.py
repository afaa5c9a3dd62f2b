"""ColumnRuns: the pixels of many masks as runs inside columns, in a picture's coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .rle import read_runs

Ints = npt.NDArray[np.int64]
Small = npt.NDArray[np.signedinteger]


@dataclass(frozen=True, slots=True)
class ColumnRuns:
    """n runs, int32; those of one mask in one column neither overlap nor touch.

    Attributes:
        mask: Index 0… of the mask that each run belongs to.
        x: Its column, pixels.
        top: Its first row, pixels.
        bottom: One past its last row.
    """

    mask: Small
    x: Small
    top: Small
    bottom: Small

    def __len__(self) -> int:
        return len(self.mask)

    def take(self, where: npt.NDArray[np.bool_] | Ints) -> ColumnRuns:
        """Those of a selection."""
        return ColumnRuns(self.mask[where], self.x[where], self.top[where], self.bottom[where])

    def within(self, y: slice, x: slice) -> ColumnRuns:
        """What lies in a window of the picture."""
        cut = self.take((self.x >= x.start) & (self.x < x.stop))
        top, bottom = np.maximum(cut.top, y.start), np.minimum(cut.bottom, y.stop)
        return ColumnRuns(cut.mask, cut.x, top, bottom).take(top < bottom)

    def areas(self, count: int) -> Ints:
        """Pixels of each of `count` masks."""
        sums = np.bincount(self.mask, weights=self.bottom - self.top, minlength=count)
        return sums.astype(np.int64)

    def places(self, height: int) -> tuple[Ints, Ints]:
        """First pixel and one past the last, as column-major indices of a picture so high."""
        column = self.x.astype(np.int64) * height
        return column + self.top, column + self.bottom

    def parts(self, *, diagonal: bool = False) -> ColumnRuns:
        """The same runs with `mask` numbering the connected parts of all masks from 0.

        Order is kept, so `mask` of both belong together.

        Args:
            diagonal: Pixels that touch at a corner are connected too (8-connected).
        """
        height, width = self._extent()
        line = self.mask.astype(np.int64) * (width + 1) + self.x
        start, end = line * height + self.top, line * height + self.bottom
        order = np.argsort(start)
        beside = start[order] + height  # one column to the right
        # There is a row below the picture: one pixel more on either side stays in its column.
        low = np.searchsorted(end[order], beside - diagonal, side="right")
        high = np.searchsorted(start[order], end[order] + height + diagonal, side="left")
        left, right = ranges(low, high)
        root = components(len(self), order[left], order[right])
        _, part = np.unique(root, return_inverse=True)
        return ColumnRuns(part.astype(np.int32), self.x, self.top, self.bottom)

    def overlaps(self, other: ColumnRuns) -> tuple[Ints, Ints, Ints]:
        """Pairs of a mask here and a mask there that share pixels.

        Returns:
            Index here, index there, pixels shared; ascending.
        """
        height = max(self._extent()[0], other._extent()[0])
        start, end = self.places(height)
        there = other.take(np.lexsort((other.top, other.x)))
        begin, stop = there.places(height)
        # Runs there may overlap: whoever starts first need not end first.
        reach = np.maximum.accumulate(stop) if len(stop) else stop
        low = np.searchsorted(reach, start, side="right")
        high = np.searchsorted(begin, end, side="left")
        left, right = ranges(low, high)
        shared = np.minimum(end[left], stop[right]) - np.maximum(start[left], begin[right])
        left, right, shared = left[shared > 0], right[shared > 0], shared[shared > 0]
        count = int(other.mask.max(initial=0)) + 1
        both = self.mask[left].astype(np.int64) * count + there.mask[right]
        pair, inverse = np.unique(both, return_inverse=True)
        pixels = np.bincount(inverse, weights=shared, minlength=len(pair)).astype(np.int64)
        return pair // count, pair % count, pixels

    def _extent(self) -> tuple[int, int]:
        """(height, width) of a picture that holds all runs."""
        return int(self.bottom.max(initial=0)) + 1, int(self.x.max(initial=0)) + 1


def read_column_runs(
    texts: Sequence[bytes] | pa.StringArray, height: int, width: int
) -> ColumnRuns:
    """Reads compressed RLE strings of masks of HxW pixels; runs ascend by mask, column, row.

    Raises:
        ValueError: A string is malformed or belongs to a picture of another size.
    """
    table = read_runs(pa.array(texts, pa.string()), np.full(len(texts), height * width, np.int64))
    if not table.wellformed.all():
        index = int(np.flatnonzero(~table.wellformed)[0])
        raise ValueError(f"segment {index + 1} has a malformed RLE for {width}x{height} pixels")
    left, top = np.divmod(table.starts, height)
    right, bottom = np.divmod(table.ends - 1, height)
    run, place = ranges(np.zeros_like(left), right - left + 1)
    columns = (
        table.mask[run],
        left[run] + place,
        np.where(place == 0, top[run], 0),
        np.where(left[run] + place == right[run], bottom[run] + 1, height),
    )
    return ColumnRuns(*(values.astype(np.int32) for values in columns))


def concatenate(parts: Sequence[ColumnRuns]) -> ColumnRuns:
    """The runs of one or more tables, one after the other."""
    names = ("mask", "x", "top", "bottom")
    return ColumnRuns(*(np.concatenate([getattr(one, name) for one in parts]) for name in names))


def merge_runs(runs: ColumnRuns, height: int) -> tuple[Ints, Ints, Ints]:
    """The union of each mask's runs, which may overlap.

    Args:
        runs: In any order.
        height: Of the picture, pixels.

    Returns:
        Mask, first pixel and one past the last (column-major indices) of each run, ascending by
        mask and start; runs of a mask that touch are one.
    """
    starts, ends = runs.places(height)
    order = np.lexsort((starts, runs.mask))
    mask, starts, ends = runs.mask[order].astype(np.int64), starts[order], ends[order]
    if not len(mask):
        return mask, starts, ends
    # Masks one after the other on a line, so that one running maximum serves all.
    offset = (mask - mask[0]) * (int(ends.max()) + 1)
    reach = np.maximum.accumulate(ends + offset)
    apart = starts[1:] + offset[1:] > reach[:-1]
    begins, last = np.append(True, apart), np.append(apart, True)
    return mask[begins], starts[begins], (reach - offset)[last]


def components(count: int, left: Ints, right: Ints) -> Ints:
    """Connected components of a graph.

    Args:
        count: Nodes 0…count − 1.
        left: One end of each edge.
        right: Its other end.

    Returns:
        The smallest node of each node's component.
    """
    root = np.arange(count)
    while True:
        a, b = root[left], root[right]
        differ = a != b
        if not differ.any():
            return root
        left, right = left[differ], right[differ]
        a, b = a[differ], b[differ]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while (root[root] != root).any():
            root = root[root]


def ranges(low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """For each i the numbers low[i]…high[i] − 1: i repeated, and the numbers."""
    count = np.maximum(high - low, 0)
    index = np.repeat(np.arange(len(count)), count)
    first = np.cumsum(count) - count
    return index, np.arange(len(index)) - first[index] + low[index]


# Masks as vertical runs of pixels: what every measure of shape starts from.
#
# COCO's runs go down one column and on at the top of the next. Cut where a column ends, each is an
# interval of rows in one column, and sums over a mask's pixels become sums over a few intervals.

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class MaskRuns:
    """The R vertical runs of n masks, by mask, then column, then row; no two of a mask touch.

    Attributes:
        owner: R indices 0…n−1 of masks; every mask has a run.
        column: R columns, pixels of the picture.
        top: R first rows.
        bottom: R rows, one past the last.
        first: n indices, where each mask's runs begin.
        heights: n heights of the pictures, pixels.
        widths: n widths.
    """

    owner: Ints
    column: Ints
    top: Ints
    bottom: Ints
    first: Ints
    heights: Ints
    widths: Ints

    def __len__(self) -> int:
        """Number of masks."""
        return len(self.first)

    def choose(self, masks: Ints) -> MaskRuns:
        """Some of the masks, by ascending index."""
        number = np.diff(np.append(self.first, len(self.owner)))[masks]
        first = np.cumsum(number) - number
        mine = np.arange(number.sum()) + np.repeat(self.first[masks] - first, number)
        return MaskRuns(
            owner=np.repeat(np.arange(len(masks)), number),
            column=self.column[mine],
            top=self.top[mine],
            bottom=self.bottom[mine],
            first=first,
            heights=self.heights[masks],
            widths=self.widths[masks],
        )

    def lengths(self) -> Ints:
        """Pixels of each run; R values ≥ 1."""
        return self.bottom - self.top

    def total(self, values: Ints) -> Ints:
        """Sums of one value a run over each mask; n values."""
        return np.add.reduceat(values, self.first)

    def boxes_xywh(self) -> Ints:
        """Tight boxes, n×4, pixels."""
        last = np.append(self.first[1:], len(self.owner)) - 1
        left, right = self.column[self.first], self.column[last]
        top = np.minimum.reduceat(self.top, self.first)
        bottom = np.maximum.reduceat(self.bottom, self.first)
        return np.stack((left, top, right - left + 1, bottom - top), axis=1)


def mask_runs(texts: pa.StringArray, heights: Ints, widths: Ints) -> MaskRuns:
    """Reads n compressed RLE strings, n ≥ 1.

    Args:
        texts: The strings, none null.
        heights: Of each mask's picture, pixels.
        widths: Likewise.

    Raises:
        ValueError: A string is malformed, belongs to a picture of another size or holds no pixel;
            says which, counted from 0.
    """
    runs = read_runs(texts, heights * widths)
    if not runs.wellformed.all():
        index = int(np.flatnonzero(~runs.wellformed)[0])
        size = f"{widths[index]}x{heights[index]}"
        raise ValueError(f"mask {index} is a malformed RLE for {size} pixels")
    owner, starts, ends = runs.mask, runs.starts, runs.ends
    if not runs.canonical.all():  # another writer's code: join runs that touch
        apart = (starts[1:] != ends[:-1]) | (owner[1:] != owner[:-1])
        begins, stops = np.append(True, apart), np.append(apart, True)
        owner, starts, ends = owner[begins], starts[begins], ends[stops]
    counts = np.bincount(owner, minlength=len(texts))
    if not counts.all():
        raise ValueError(f"mask {int(np.flatnonzero(counts == 0)[0])} holds no pixel")

    height = heights[owner]
    left, top = np.divmod(starts, height)
    right, bottom = np.divmod(ends - 1, height)
    pieces = right - left + 1  # a run that goes over a column's foot is one run in each column
    before = np.cumsum(pieces) - pieces
    step = np.arange(pieces.sum()) - np.repeat(before, pieces)
    again, height = np.repeat(np.arange(len(owner)), pieces), np.repeat(height, pieces)
    owner = owner[again]
    return MaskRuns(
        owner=owner,
        column=left[again] + step,
        top=np.where(step == 0, top[again], 0),
        bottom=np.where(step == pieces[again] - 1, bottom[again] + 1, height),
        first=np.searchsorted(owner, np.arange(len(texts))),
        heights=heights,
        widths=widths,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """Masks side by side on one number line: pixels of all of them as sorted keys.

    Mask i owns the keys base[i]…base[i+1]−1. Its box is laid out column by column with one empty
    column on either side and one empty row below each, so that key ± 1 is the pixel below or
    above, key ± stride[i] the one to the right or left, and none of them another mask's.

    Attributes:
        base: n + 1 keys.
        stride: n keys a column: the box's height + 1.
        starts: R keys of the runs' first pixels, ascending.
        ends: R keys, one past the last pixels.
    """

    base: Ints
    stride: Ints
    starts: Ints
    ends: Ints


def canvas_of_runs(runs: MaskRuns) -> Canvas:
    """Places the masks on a canvas."""
    x, y, w, h = runs.boxes_xywh().T
    stride = h + 1
    base = np.append(0, np.cumsum((w + 2) * stride))
    corner = base[:-1] + stride  # the box's first pixel, behind the empty column
    foot = (corner - x * stride - y)[runs.owner] + runs.column * stride[runs.owner]
    return Canvas(base, stride, foot + runs.top, foot + runs.bottom)
