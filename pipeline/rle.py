"""COCO's run-length code in numpy: runs of pixels ↔ the compressed string.

A mask is read column by column (column-major, "Fortran" order) and written as the lengths of its
runs, zeros first. The string form stores each length as a little-endian number of 5-bit digits,
from the fourth on as the difference to the length two places before; see the functions below and
the specification in `common/maskApi.c` of cocodataset/cocoapi (rleToString, rleFrString).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

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
