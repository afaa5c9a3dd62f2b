"""Many compressed RLE strings at once: their runs, areas, boxes, and the map they paint.

`rle.expand` reads one string in some twenty numpy calls; here the same calls read a whole table's
strings. Nothing is handed to C code that trusts its input, so damaged strings are safe to read.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_MAX_DIGITS = 12  # 60 bits: sums of two such numbers stay inside int64


@dataclass(frozen=True, slots=True)
class RunTable:
    """The runs of ones of n masks, in the order of the strings.

    Attributes:
        mask: Index 0…n−1 of the mask that each run belongs to, ascending.
        starts: First pixel of each run, column-major index; ascending within a mask.
        ends: One past the last pixel of each run; no run is empty.
        wellformed: Per mask: its lengths could be read and add up to the picture. A malformed
            mask has no runs.
        canonical: Per mask: the string is what pycocotools' `encode` writes for these pixels.
    """

    mask: Ints
    starts: Ints
    ends: Ints
    wellformed: Flags
    canonical: Flags

    def areas(self) -> Ints:
        """Pixels of each mask; n values."""
        return np.bincount(
            self.mask, weights=self.ends - self.starts, minlength=len(self.wellformed)
        ).astype(np.int64)

    def boxes_xywh(self, heights: Ints) -> Ints:
        """Tight boxes in pixels, n×4; zeros for a mask without a pixel.

        Args:
            heights: Of each mask's picture, n values, pixels.
        """
        boxes = np.zeros((len(self.wellformed), 4), np.int64)
        if not len(self.mask):
            return boxes
        height = heights[self.mask]
        left, top = np.divmod(self.starts, height)
        right, bottom = np.divmod(self.ends - 1, height)
        wraps = right > left  # a run over a column's foot touches both edges
        top[wraps], bottom[wraps] = 0, height[wraps] - 1
        first = np.flatnonzero(np.append(True, self.mask[1:] != self.mask[:-1]))
        x, y = np.minimum.reduceat(left, first), np.minimum.reduceat(top, first)
        w = np.maximum.reduceat(right, first) - x + 1
        h = np.maximum.reduceat(bottom, first) - y + 1
        boxes[self.mask[first]] = np.stack((x, y, w, h), axis=1)
        return boxes

    def overlapping(self, group: Ints, pixels: int) -> Flags:
        """Per mask: whether it shares a pixel with a mask of the same group (picture).

        Args:
            group: Index of each mask's picture, n values.
            pixels: More than any picture has.
        """
        key = group[self.mask] * pixels
        order = np.argsort(key + self.starts, kind="stable")
        starts, ends, mask = (key + self.starts)[order], (key + self.ends)[order], self.mask[order]
        reach = np.maximum.accumulate(ends) if len(ends) else ends
        hit = np.flatnonzero(starts[1:] < reach[:-1]) + 1
        flags = np.zeros(len(self.wellformed), np.bool_)
        flags[mask[hit]] = True
        # Whoever reaches furthest before the hit is the other party.
        flags[mask[np.searchsorted(reach, reach[hit - 1])]] = True
        return flags


def read_runs(texts: pa.StringArray, pixels: Ints) -> RunTable:
    """Reads the strings of n masks.

    Args:
        texts: n compressed RLE strings, none null.
        pixels: Height × width of each mask's picture, n values ≥ 0, below 2**40.
    """
    count = len(texts)
    data, offset = _characters(texts)
    usable = _readable(data, offset)
    if not usable.all():
        kept = np.flatnonzero(usable)
        part = read_runs(texts.take(pa.array(kept)), pixels[kept])
        wellformed, canonical = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        wellformed[kept], canonical[kept] = part.wellformed, part.canonical
        return RunTable(kept[part.mask], part.starts, part.ends, wellformed, canonical)
    if not count:
        none = np.zeros(0, np.int64)
        return RunTable(none, none, none, np.zeros(0, np.bool_), np.zeros(0, np.bool_))

    digit = data.astype(np.int64) - 48
    last = np.flatnonzero(digit < 32)  # the last digit of each number
    begin = np.append(0, last[:-1] + 1)
    size = last - begin + 1
    shift = 5 * (np.arange(len(digit)) - np.repeat(begin, size))
    value = np.add.reduceat((digit & 31) << shift, begin)
    value -= (digit[last] & 16) << (shift[last] + 1)  # sign: the top bit of the last digit

    first = np.searchsorted(begin, offset[:-1])  # each mask's first number
    numbers = np.diff(np.append(first, len(value)))
    place = np.arange(len(value)) - np.repeat(first, numbers)
    owner = np.repeat(np.arange(count), numbers)
    # From the fourth on, a number is the difference to the one two places before.
    for parity in (1, 0):
        chain = np.flatnonzero((place > 0) & (place % 2 == parity))
        value[chain] = _running_sum(value[chain], owner[chain])

    wrong = (value < 0) | (value > pixels[owner])
    wellformed = np.add.reduceat(np.where(wrong, 0, value), first) == pixels
    wellformed[owner[wrong]] = False
    # A digit too many repeats the sign of the one before; an empty run is one too many.
    before = digit[np.maximum(last - 1, 0)]
    spare = (size > 1) & (digit[last] == np.where(before & 16, 31, 0))
    odd = spare | ((value == 0) & (place > 0))
    canonical = wellformed.copy()
    canonical[owner[odd]] = False

    edges = _running_sum(np.where(wellformed[owner], value, 0), owner)
    ones = np.flatnonzero((place % 2 == 1) & (value > 0) & wellformed[owner])
    return RunTable(owner[ones], edges[ones] - value[ones], edges[ones], wellformed, canonical)


def paint(
    texts: pa.StringArray, values: npt.ArrayLike, height: int, width: int
) -> npt.NDArray[np.int32]:
    """The label map of masks that do not overlap.

    Args:
        texts: n compressed RLE strings of one picture.
        values: What each mask's pixels become, n integers.
        height: Of the picture, pixels.
        width: Of the same.

    Returns:
        HxW int32, C-contiguous, 0 where no mask is.

    Raises:
        ValueError: A string is malformed or belongs to another picture, or two masks overlap.
    """
    pixels = height * width
    runs = read_runs(texts, np.full(len(texts), pixels, np.int64))
    if not runs.wellformed.all():
        index = int(np.flatnonzero(~runs.wellformed)[0])
        raise ValueError(f"segment {index + 1} has a malformed RLE for {width}x{height} pixels")
    order = np.argsort(runs.starts, kind="stable")
    starts, ends = runs.starts[order], runs.ends[order]
    if (starts[1:] < ends[:-1]).any():
        raise ValueError("segments overlap")
    lengths = np.empty(2 * len(starts) + 1, np.int64)
    lengths[0::2] = np.append(starts, pixels) - np.append(0, ends)
    lengths[1::2] = ends - starts
    value = np.zeros(len(lengths), np.int32)
    value[1::2] = np.asarray(values, np.int32)[runs.mask[order]]
    return cv2.transpose(np.repeat(value, lengths).reshape(width, height)).astype(
        np.int32, copy=False
    )


def _characters(texts: pa.StringArray) -> tuple[npt.NDArray[np.uint8], Ints]:
    """The strings' bytes end to end, and where each begins plus the end; n + 1 offsets."""
    _, offsets, data = texts.buffers()
    if not len(texts) or offsets is None or data is None:
        return np.zeros(0, np.uint8), np.zeros(len(texts) + 1, np.int64)
    kind = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    where = np.frombuffer(offsets, kind)[texts.offset : texts.offset + len(texts) + 1]
    where = where.astype(np.int64)
    return np.frombuffer(data, np.uint8)[where[0] : where[-1]], where - where[0]


def _readable(data: npt.NDArray[np.uint8], offset: Ints) -> Flags:
    """Per string: not empty, only digits, complete numbers of at most 60 bits."""
    length = np.diff(offset)
    good = length > 0
    owner = np.repeat(np.arange(len(length)), length)
    good[owner[(data < 48) | (data > 111)]] = False
    stop = data < 80  # digit < 32: no further digit follows
    ends = offset[1:][length > 0] - 1
    good[np.flatnonzero(length > 0)[~stop[ends]]] = False
    last = np.flatnonzero(stop)
    before = np.maximum(np.append(-1, last)[:-1], offset[owner[last]] - 1)
    good[owner[last[last - before > _MAX_DIGITS]]] = False
    return good


def _running_sum(value: Ints, owner: Ints) -> Ints:
    """Cumulative sum that starts afresh where `owner` changes."""
    if not len(value):
        return value
    total = np.cumsum(value)
    first = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
    base = total[first] - value[first]
    return total - np.repeat(base, np.diff(np.append(first, len(value))))
