"""Convex hulls of many masks at once, exact: their area in pixels and the Feret diameters.

A pixel is a small diamond, the middles of its four edges, and a hull is drawn around the diamonds:
`skimage.morphology.convex_hull_image` with its offset coordinates. All points are kept at twice
their coordinates, which are then integers, and nothing is rounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.masks.column_runs import Floats, Ints, MaskRuns

_PASSES = 12
_PAIRS = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Hulls:
    """n values each.

    Attributes:
        area_convex: Pixels whose centre lies in the hull or on its edge.
        feret_diameter_max: Largest distance of two points of the outline of those pixels.
        feret_diameter_min: Least distance of two parallel lines that hold that outline.
    """

    area_convex: Ints
    feret_diameter_max: Floats
    feret_diameter_min: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Chain:
    """Upper halves of n hulls, from left to right.

    Attributes:
        owner: Index of the mask of each vertex, ascending.
        x: Twice the column, ascending within a mask.
        y: Twice the row, upwards.
    """

    owner: Ints
    x: Ints
    y: Ints


def measure_hulls(runs: MaskRuns) -> Hulls:
    """Hulls of the masks, and of the pixels inside those hulls."""
    new = np.append(True, (np.diff(runs.owner) != 0) | (np.diff(runs.column) != 0))
    begin = np.flatnonzero(new)
    end = np.append(begin[1:], len(new)) - 1
    owner, column = runs.owner[begin], runs.column[begin]
    low, high = runs.top[begin], runs.bottom[end] - 1
    chains = _upper(owner, column, -low), _upper(owner, column, high)

    x, _, width, _ = runs.boxes_xywh().T
    owner = np.repeat(np.arange(len(runs)), width)
    column = np.arange(len(owner)) - np.repeat(np.cumsum(width) - width - x, width)
    low, high = (_height(chain, owner, column) for chain in chains)
    low = -low
    area = np.bincount(owner, weights=high - low + 1, minlength=len(runs)).astype(np.int64)
    filled = high >= low  # a thin slanted hull may pass between two pixels
    owner, column, low, high = owner[filled], column[filled], low[filled], high[filled]
    longest, narrowest = _feret(_upper(owner, column, -low), _upper(owner, column, high), len(runs))
    return Hulls(area, longest, narrowest)


def _upper(owner: Ints, column: Ints, high: Ints) -> _Chain:
    """Upper hulls of the diamonds around the highest pixels of columns.

    Args:
        owner: Index of the mask, ascending.
        column: Ascending within a mask.
        high: Rows, upwards.
    """
    # In order of x: left corner (2c − 1), tip (2c), right corner (2c + 1) of each diamond. Where
    # the right corner of one and the left one of the next meet, the higher one counts.
    x = (2 * column[:, None] + (-1, 0, 1)).reshape(-1)
    y = (2 * high[:, None] + (0, 1, 0)).reshape(-1)
    owner = np.repeat(owner, 3)
    meet = np.flatnonzero((owner[1:] == owner[:-1]) & (x[1:] == x[:-1]))
    y[meet] = np.maximum(y[meet], y[meet + 1])
    keep = np.ones(len(x), np.bool_)
    keep[meet + 1] = False
    chain = _Chain(owner[keep], x[keep], y[keep])
    # A point on or below the line between its neighbours is no vertex; all such points go at once.
    done: list[_Chain] = []
    for _ in range(_PASSES):
        sagging = _sagging(chain)
        if not sagging.any():
            return _join([*done, chain])
        busy = np.zeros(int(chain.owner[-1]) + 1, np.bool_)
        busy[chain.owner[sagging]] = True
        more = busy[chain.owner]
        done.append(_choose(chain, ~more))
        chain = _choose(chain, more & ~sagging)
    return _join([*done, _one_by_one(chain)])


def _sagging(chain: _Chain) -> np.ndarray:
    x, y, owner = chain.x, chain.y, chain.owner
    flags = np.zeros(len(x), np.bool_)
    rise = (x[1:-1] - x[:-2]) * (y[2:] - y[:-2]) - (y[1:-1] - y[:-2]) * (x[2:] - x[:-2])
    flags[1:-1] = (rise >= 0) & (owner[:-2] == owner[2:])
    return flags


def _one_by_one(chain: _Chain) -> _Chain:
    """The monotone chain of A. M. Andrew (1979), for hulls that the passes did not finish."""
    kept: list[int] = []
    begin = 0
    owner, x, y = chain.owner.tolist(), chain.x.tolist(), chain.y.tolist()
    for k in range(len(owner)):
        if k and owner[k] != owner[k - 1]:
            begin = len(kept)
        while len(kept) - begin > 1:
            a, b = kept[-2], kept[-1]
            if (x[b] - x[a]) * (y[k] - y[a]) < (y[b] - y[a]) * (x[k] - x[a]):
                break
            kept.pop()
        kept.append(k)
    return _choose(chain, np.array(kept, np.int64))


def _choose(chain: _Chain, index: np.ndarray) -> _Chain:
    return _Chain(chain.owner[index], chain.x[index], chain.y[index])


def _join(chains: list[_Chain]) -> _Chain:
    """Chains of different masks as one, by mask."""
    owner = np.concatenate([chain.owner for chain in chains])
    order = np.argsort(owner, kind="stable")
    x, y = (np.concatenate([getattr(chain, name) for chain in chains])[order] for name in "xy")
    return _Chain(owner[order], x, y)


def _height(chain: _Chain, owner: Ints, column: Ints) -> Ints:
    """Highest row at or below the chain in these columns, by mask and column."""
    x = 2 * column
    low, span = int(chain.x.min()), int(np.ptp(chain.x)) + 1
    left = np.searchsorted(chain.owner * span + chain.x - low, owner * span + x - low, "right") - 1
    right = left + 1
    run, rise = chain.x[right] - chain.x[left], chain.y[right] - chain.y[left]
    return (chain.y[left] * run + (x - chain.x[left]) * rise) // (2 * run)


def _feret(lower: _Chain, upper: _Chain, n: int) -> tuple[Floats, Floats]:
    """Greatest and least diameter of n hulls, pixels, from all pairs of their vertices."""
    # Once around: the upper chain to the right, the lower one back.
    back = np.lexsort((-lower.x, lower.owner))
    owner = np.concatenate((upper.owner, lower.owner[back]))
    order = np.argsort(owner, kind="stable")
    owner = owner[order]
    x = np.concatenate((upper.x, lower.x[back]))[order]
    y = np.concatenate((upper.y, -lower.y[back]))[order]
    # The ends of both chains are the same two points.
    keep = np.append(True, (np.diff(owner) != 0) | (np.diff(x) != 0) | (np.diff(y) != 0))
    owner, x, y = owner[keep], x[keep], y[keep]
    first = np.searchsorted(owner, np.arange(n))
    size = np.append(first[1:], len(owner)) - first
    following = np.arange(1, len(owner) + 1)
    following[first + size - 1] = first
    along, up = x[following] - x, y[following] - y

    far, reach = np.zeros(len(owner), np.int64), np.zeros(len(owner), np.int64)
    pairs = np.cumsum(size[owner])
    at = 0
    while at < len(owner):
        until = max(at + 1, int(np.searchsorted(pairs, pairs[at] - size[owner[at]] + _PAIRS)))
        here = np.arange(at, until)
        many = size[owner[here]]
        start = np.cumsum(many) - many
        a = np.repeat(here, many)
        b = np.arange(len(a)) - np.repeat(start - first[owner[here]], many)
        dx, dy = x[b] - x[a], y[b] - y[a]
        far[here] = np.maximum.reduceat(dx * dx + dy * dy, start)
        reach[here] = np.maximum.reduceat(np.abs(along[a] * dy - up[a] * dx), start)
        at = until
    edge = np.hypot(along, up)
    width = np.where(edge > 0, reach / np.maximum(edge, 1), np.inf)  # the closing edge may be 0
    return (
        np.sqrt(np.maximum.reduceat(far, first)) / 2,
        np.minimum.reduceat(width, first) / 2,
    )
