"""COCO's run-length code in numpy: runs of pixels ↔ the compressed string.

A mask is read column by column (column-major, "Fortran" order) and written as the lengths of its
runs, zeros first. The string form stores each length as a little-endian number of 5-bit digits,
from the fourth on as the difference to the length two places before; see the functions below and
the specification in `common/maskApi.c` of cocodataset/cocoapi (rleToString, rleFrString).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]

_PLACES = 12  # digits of a number, at most: 60 bits
_AT_ONCE = 1 << 18  # numbers; the table of their digits has 8 bytes a digit
_BOUNDS = 1 << (5 * np.arange(1, _PLACES, dtype=np.int64) - 1)
_SHIFTS = 5 * np.arange(_PLACES, dtype=np.int64)
# For each number of columns: row n − 1 says which columns a number of n digits fills, …
_KEPT = [np.tri(_PLACES, places, dtype=bool) for places in range(_PLACES + 1)]
# … and what is added to them: "0", and 32 where another digit follows.
_OFFSETS = [48 + 32 * np.tri(_PLACES, k, -1, dtype=np.uint8) for k in range(_PLACES + 1)]


def counts_of_runs(
    starts: Ints, ends: Ints, first: Ints, pixels: int
) -> tuple[Ints, npt.NDArray[np.intp]]:
    """Run lengths of several masks at once.

    Args:
        starts: First pixel of each run of ones, column-major index; ascending within a mask.
        ends: One past the last pixel of each run.
        first: Index in `starts` where each mask begins; ascending, first[0] == 0, no mask is
            without a run.
        pixels: Height × width.

    Returns:
        The lengths of all masks one after the other (zeros, ones, zeros, …), and the index where
        each mask's lengths begin.
    """
    before = np.empty_like(starts)  # where the zeros before each run begin
    before[1:] = ends[:-1]
    before[first] = 0
    last = np.append(first[1:], len(starts)) - 1
    tail = pixels - ends[last]
    has_tail = tail > 0
    offset = 2 * first
    offset[1:] += np.cumsum(has_tail[:-1])
    counts = np.empty(2 * len(starts) + int(has_tail.sum()), np.int64)
    runs_of = np.diff(np.append(first, len(starts)))
    place = 2 * np.arange(len(starts)) + np.repeat(offset - 2 * first, runs_of)
    counts[place] = starts - before
    counts[place + 1] = ends - starts
    counts[(place[last] + 2)[has_tail]] = tail[has_tail]
    return counts, offset


def compress(counts: Ints, offset: npt.NDArray[np.intp]) -> list[bytes]:
    """Writes run lengths as COCO strings.

    Args:
        counts: Lengths of one or more masks, one after the other.
        offset: Index where each mask's lengths begin, ascending from 0.

    Returns:
        One ASCII string a mask.
    """
    value = counts.copy()
    value[3:] -= counts[1:-2]
    if len(offset) > 1:  # the first three lengths of every mask are stored as they are
        plain = (offset[1:, None] + np.arange(3)).ravel()
        plain = plain[plain < np.repeat(np.append(offset[2:], len(counts)), 3)]
        value[plain] = counts[plain]
    text, digits = digits_of(value)
    if len(offset) == 1:
        return [text]
    ends = np.cumsum(digits)
    cuts = [0, *ends[offset[1:] - 1].tolist(), len(text)]
    return [text[a:b] for a, b in pairwise(cuts)]


def digits_of(values: Ints) -> tuple[bytes, Ints]:
    """Writes numbers as COCO's digits, one after the other.

    Args:
        values: n lengths, or differences of lengths.

    Returns:
        The ASCII text, and how many characters each number has.
    """
    if len(values) > _AT_ONCE:
        parts = [digits_of(values[at : at + _AT_ONCE]) for at in range(0, len(values), _AT_ONCE)]
        return b"".join(text for text, _ in parts), np.concatenate([size for _, size in parts])
    # n digits hold −2^(5n−1) … 2^(5n−1)−1; ~x folds the negatives onto the same bound.
    digits = np.searchsorted(_BOUNDS, values ^ (values >> 63), side="right")
    places = int(digits.max(initial=0)) + 1
    table = ((values[:, None] >> _SHIFTS[:places]) & 31).astype(np.uint8)
    table += _OFFSETS[places].take(digits, axis=0)
    text = table.reshape(-1).compress(_KEPT[places].take(digits, axis=0).reshape(-1)).tobytes()
    return text, digits + 1


def expand(text: bytes | str, pixels: int) -> Ints:
    """Reads run lengths back from a COCO string.

    Args:
        text: The string, ASCII.
        pixels: Height × width, which the lengths must add up to.

    Raises:
        ValueError: The string is malformed or belongs to a picture of another size.
    """
    try:
        data = text.encode("ascii") if isinstance(text, str) else bytes(text)
    except UnicodeEncodeError:
        raise ValueError("malformed RLE: not ASCII") from None
    digit = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    if not len(digit) or digit.min() < 0 or digit.max() > 63:
        raise ValueError("malformed RLE: empty, or a character outside '0'…'o'")
    last = np.flatnonzero(digit < 32)
    if not len(last) or last[-1] != len(digit) - 1:
        raise ValueError("malformed RLE: it ends in the middle of a number")
    begin = np.append(0, last[:-1] + 1)
    size = last - begin + 1
    if size.max() > _PLACES:
        raise ValueError("malformed RLE: a number has too many digits")
    shift = 5 * (np.arange(len(digit)) - np.repeat(begin, size))
    value = np.add.reduceat((digit & 31) << shift, begin)
    value -= (digit[last] & 16) << (shift[last] + 1)  # sign: the top bit of the last digit
    value[1::2] = np.cumsum(value[1::2])
    value[2::2] = np.cumsum(value[2::2])
    return check_counts(value, pixels)


def check_counts(counts: Ints, pixels: int) -> Ints:
    """Returns `counts` if they are run lengths of a picture of `pixels` pixels.

    Raises:
        ValueError: A length is negative, or they do not add up.
    """
    if counts.min(initial=0) < 0 or counts.max(initial=0) > pixels:
        raise ValueError("malformed RLE: a run length is negative or longer than the picture")
    if (total := int(counts.sum())) != pixels:
        raise ValueError(f"malformed RLE: the runs cover {total} pixels of a picture of {pixels}")
    return counts


def runs_of_counts(counts: Ints) -> tuple[Ints, Ints]:
    """First pixel, and one past the last, of each run of ones; touching runs are joined."""
    edges = np.cumsum(counts)
    starts, ends = edges[:-1:2], edges[1::2]
    if not (counts[1:] > 0).all():  # another writer's code: drop empty runs, join what touches
        full = ends > starts
        starts, ends = starts[full], ends[full]
        apart = starts[1:] > ends[:-1]
        starts = starts[np.append(True, apart)] if len(starts) else starts
        ends = ends[np.append(apart, True)] if len(ends) else ends
    return starts, ends


def boxes_of_runs(starts: Ints, ends: Ints, first: npt.NDArray[np.intp], height: int) -> Ints:
    """Tight xywh boxes, N×4, of the masks whose runs begin at `first`; no mask is without a run."""
    left, top = np.divmod(starts, height)
    right, bottom = np.divmod(ends - 1, height)
    wraps = right > left  # a run over a column's foot touches both edges
    top[wraps], bottom[wraps] = 0, height - 1
    x, y = np.minimum.reduceat(left, first), np.minimum.reduceat(top, first)
    w = np.maximum.reduceat(right, first) - x + 1
    h = np.maximum.reduceat(bottom, first) - y + 1
    return np.stack((x, y, w, h), axis=1)


# Many compressed RLE strings at once: their runs, areas, boxes, and the map they paint.
#
# `rle.expand` reads one string in some twenty numpy calls; here the same calls read a whole table's
# strings. Nothing is handed to C code that trusts its input, so damaged strings are safe to read.

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


def paint_runs(
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
