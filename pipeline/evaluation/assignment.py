"""One-to-one assignment of true and predicted objects."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from .segments import Floats, Ints


def assign(rows: Ints, columns: Ints, iou: Floats) -> Ints:
    """The one-to-one choice among candidate pairs: as many as possible, then largest sum of IoU.

    Args:
        rows: p indices of true objects.
        columns: p indices of predicted objects.
        iou: p values in 0…1.

    Returns:
        Indices of the chosen pairs, ascending.
    """
    if not len(rows):
        return np.zeros(0, np.int64)
    free = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    chosen = [np.flatnonzero(free)]
    rivals = np.flatnonzero(~free)
    if len(rivals):
        _, i = np.unique(rows[rivals], return_inverse=True)
        _, j = np.unique(columns[rivals], return_inverse=True)
        size = int(i.max()) + 1, int(j.max()) + 1
        links = sparse.coo_array((np.ones(len(i)), (i, size[0] + j)), shape=(sum(size),) * 2)
        _, part = sparse.csgraph.connected_components(links, directed=False)
        order = np.argsort(part[i], kind="stable")
        cuts = np.flatnonzero(np.diff(part[i][order])) + 1
        chosen += [rivals[_best(group, i, j, iou[rivals])] for group in np.split(order, cuts)]
    return np.sort(np.concatenate(chosen))


def _best(group: Ints, i: Ints, j: Ints, iou: Floats) -> Ints:
    """Of the pairs that hang together through shared objects, the ones to choose."""
    _, row = np.unique(i[group], return_inverse=True)
    _, column = np.unique(j[group], return_inverse=True)
    gain = np.zeros((row.max() + 1, column.max() + 1))
    pair = np.full(gain.shape, -1)
    # One more pair outweighs every sum of IoU.
    gain[row, column] = 1 + iou[group] / (2 * min(gain.shape))
    pair[row, column] = group
    found = pair[linear_sum_assignment(gain, maximize=True)]
    return found[found >= 0]
