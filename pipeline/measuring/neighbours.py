"""Which masks lie beside one another, from their runs."""

from __future__ import annotations

import numpy as np

from .mask_runs import Ints, MaskRuns

_PAIRS = 2_000_000


def find_neighbours(runs: MaskRuns, group: Ints, distance: int) -> tuple[Ints, Ints]:
    """Finds the masks of which pixels lie within `distance` columns and rows of each other.

    At distance 1 they touch, if only at a corner; at distance 0 they overlap.

    Args:
        runs: Of n masks.
        group: n numbers ≥ 0, ascending: only masks of one group (a picture) can be neighbours.
        distance: Pixels ≥ 0.

    Returns:
        p indices of masks and p indices of their neighbours, every pair both ways, in ascending
        order.
    """
    # Runs on one number line: pictures, then columns, each with room below for the search.
    picture = np.unique(group, return_inverse=True)[1]
    tall = np.zeros(picture.max(initial=-1) + 1, np.int64)
    wide = tall.copy()
    np.maximum.at(tall, picture, runs.heights)
    np.maximum.at(wide, picture, runs.widths)
    stride = tall + 2 * distance
    size = (wide + distance) * stride
    base = np.cumsum(size) - size
    mine = picture[runs.owner]
    start = base[mine] + runs.column * stride[mine] + runs.top + distance
    order = np.argsort(start, kind="stable")
    owner, start = runs.owner[order], start[order]
    end = start + runs.lengths()[order]
    stride = stride[mine[order]]
    reach = np.maximum.accumulate(end) if len(end) else end

    n = len(runs)
    pairs = np.zeros(0, np.int64)
    for shift in range(distance + 1):
        low, high = start + shift * stride - distance, end + shift * stride + distance
        # From the first run that reaches below `low` to the last one that begins above `high`.
        begin = np.searchsorted(reach, low, side="right")
        number = np.maximum(np.searchsorted(start, high) - begin, 0)
        total = np.cumsum(number)
        at = 0
        while at < len(total):
            limit = total[at] - number[at] + _PAIRS
            until = max(at + 1, int(np.searchsorted(total, limit, side="right")))
            count = number[at:until]
            one = np.repeat(np.arange(at, until), count)
            other = np.arange(len(one)) - np.repeat(
                np.cumsum(count) - count - begin[at:until], count
            )
            a, b = owner[one], owner[other]
            near = (end[other] > low[one]) & (a != b)
            a, b = a[near], b[near]
            pairs = np.unique(np.concatenate((pairs, a * n + b, b * n + a)))
            at = until
    return pairs // n, pairs % n
