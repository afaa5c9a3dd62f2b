"""Which masks of one side lie on which of the other, and by how many pixels."""

from __future__ import annotations

import numpy as np

from pipeline.rle_batch import RunTable

from .columns import Ints

_PAIRS = 2_000_000


def find_overlaps(a: RunTable, b: RunTable) -> tuple[Ints, Ints, Ints]:
    """Compares the masks of one picture with others of it; those of a side may overlap.

    Args:
        a: The n masks of one side.
        b: The m masks of the other.

    Returns:
        p indices of masks of `a`, p of masks of `b` and the p numbers ≥ 1 of pixels that they
        share; by `a`, then by `b`.
    """
    order = np.argsort(b.starts, kind="stable")
    owner, start, end = b.mask[order], b.starts[order], b.ends[order]
    reach = np.maximum.accumulate(end) if len(end) else end
    # From the first run of b that reaches into a's to the last one that begins before its end.
    begin = np.searchsorted(reach, a.starts, side="right")
    number = np.maximum(np.searchsorted(start, a.ends) - begin, 0)
    total = np.cumsum(number)
    m = max(len(b.wellformed), 1)
    keys, shared = np.zeros(0, np.int64), np.zeros(0, np.int64)
    at = 0
    while at < len(total):
        limit = total[at] - number[at] + _PAIRS
        until = max(at + 1, int(np.searchsorted(total, limit, side="right")))
        count = number[at:until]
        one = np.repeat(np.arange(at, until), count)
        other = np.arange(len(one)) - np.repeat(np.cumsum(count) - count - begin[at:until], count)
        common = np.minimum(a.ends[one], end[other]) - np.maximum(a.starts[one], start[other])
        real = common > 0
        pairs = np.concatenate((keys, a.mask[one[real]] * m + owner[other[real]]))
        keys, place = np.unique(pairs, return_inverse=True)
        weights = np.concatenate((shared, common[real]))
        shared = np.bincount(place, weights=weights, minlength=len(keys)).astype(np.int64)
        at = until
    return keys // m, keys % m, shared
