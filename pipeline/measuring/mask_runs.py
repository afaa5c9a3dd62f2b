"""Masks as vertical runs of pixels: what every measure of shape starts from.

COCO's runs go down one column and on at the top of the next. Cut where a column ends, each is an
interval of rows in one column, and sums over a mask's pixels become sums over a few intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.rle_batch import read_runs

Ints = npt.NDArray[np.int64]
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


def lay_out(runs: MaskRuns) -> Canvas:
    """Places the masks on a canvas."""
    x, y, w, h = runs.boxes_xywh().T
    stride = h + 1
    base = np.append(0, np.cumsum((w + 2) * stride))
    corner = base[:-1] + stride  # the box's first pixel, behind the empty column
    foot = (corner - x * stride - y)[runs.owner] + runs.column * stride[runs.owner]
    return Canvas(base, stride, foot + runs.top, foot + runs.bottom)
