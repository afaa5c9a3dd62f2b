"""Who wins each pixel, on a CPU: most pixels are settled a cell at a time.

A cell is the square between four neighbouring points of a grid; the values of the pixels in it are
mixtures of those four, so they lie between the least and the largest. A map whose largest value in
a cell is below another's least value can win no pixel of it. Where one candidate is left the cell
is settled, elsewhere only the candidates are interpolated. The outcome is that of `plain_winners`.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .cell_settle import Labels, OpenCells, settle
from .cell_side import Floats, Side, corners, side_of
from .frame import Frame
from .resample import axes_of, readings
from .winners import Rules, Winners, label_dtype, strip_winners

_STRIP = 1 << 18
"""Pixels at once, so that what they need stays in the cache."""

_SPARSE = 1 / 8
"""Above this share of all values, interpolating every one of them is faster."""

_MOST = 1 << 23
"""Values interpolated at once, at most; more would take too much memory."""


def cell_winners(maps: Tensor, frame: Frame, rules: Rules | None = None) -> Winners:
    """See `plain_winners`.

    Args:
        maps: K×h×w float32 on the CPU, K ≥ 1.
        frame: Where the picture lies.
        rules: Of queries.
    """
    count, rows, columns = maps.shape
    height, width = frame.picture_hw
    y, x = (side_of(axis) for axis in axes_of(frame, (rows, columns)))
    reading_y, reading_x = readings(frame, (rows, columns), maps.device)
    values = points_first(maps)
    find = _Queries(values, y, rules) if rules is not None else _Values(values, y)
    labels = torch.empty((width, height), dtype=label_dtype(count))
    pixels = labels.numpy().reshape(-1)
    visible, own = np.zeros(count), np.zeros(count)
    step = max(1, _STRIP // (height * len(x.weight)))
    for start in range(0, len(x.low), step):
        part = x.part(start, start + step)
        left, right = int(part.first[0]), int(part.first[-1] + part.count[-1])
        some = pixels[left * height : right * height]
        cells = find(part)
        limit = min(_SPARSE * count * len(some), _MOST)
        if cells is None or cells.work(len(x.weight) * len(y.weight)) > limit:
            strip, owned = strip_winners(maps, reading_y, reading_x.part(left, right), rules)
            labels[left:right] = strip
            own += owned.numpy()
        else:
            filled = (cells.settled.T + 1).astype(some.dtype)
            some[:] = filled.repeat(y.count, axis=1).repeat(part.count, axis=0).reshape(-1)
            own += cells.sure
            own += settle(some, cells, values, y, part, rules)
        if rules is not None:
            visible += _tally(some, count)
    return Winners(labels, visible.astype(np.int64), own.astype(np.int64))


def points_first(maps: Tensor) -> Floats:
    """K×h×w → h×w×K, contiguous: what all maps say of a point lies together."""
    count, rows, columns = maps.shape
    if maps.permute(1, 2, 0).is_contiguous():
        return maps.permute(1, 2, 0).numpy()
    flat = np.ascontiguousarray(maps.numpy()).reshape(count, -1)
    # OpenCV transposes in cache-sized blocks.
    return np.asarray(cv2.transpose(flat), np.float32).reshape(rows, columns, count)


class _Queries:
    """Queries: bounds of score × mask probability in every cell."""

    def __init__(self, values: Floats, y: Side, rules: Rules) -> None:
        points = torch.from_numpy(values).sigmoid().mul_(rules.scores).numpy()
        above, below = points[y.low], points[y.high]
        self._least, self._most = np.minimum(above, below), np.maximum(above, below)
        self._y = y
        self._threshold = np.float32(rules.mask_threshold)

    def __call__(self, x: Side) -> OpenCells:
        least = np.minimum(self._least[:, x.low], self._least[:, x.high])
        most = np.maximum(self._most[:, x.low], self._most[:, x.high])
        candidates = most >= least.max(-1, keepdims=True)
        rivals = np.count_nonzero(candidates, axis=-1) > 1
        whole = least >= self._threshold
        asked = (most >= self._threshold) & ~whole
        size = np.multiply.outer(self._y.count, x.count).astype(np.float64)
        sure = size.reshape(-1) @ whole.reshape(-1, whole.shape[-1])
        at_y, at_x = np.nonzero(rivals | asked.any(-1))
        candidates, asked = candidates[at_y, at_x], asked[at_y, at_x]
        candidates &= rivals[at_y, at_x][:, None]
        return OpenCells(least.argmax(-1), sure, at_y, at_x, candidates, asked)


class _Values:
    """Bare values: one that is the largest in all four corners wins the whole cell."""

    def __init__(self, values: Floats, y: Side) -> None:
        rows, columns, count = values.shape
        best = values.reshape(-1, count).argmax(-1).reshape(rows, columns)
        self._above, self._below = best[y.low], best[y.high]
        self._values, self._y = values, y

    def __call__(self, x: Side) -> OpenCells | None:
        settled, right = self._above[:, x.low], self._above[:, x.high]
        under, across = self._below[:, x.low], self._below[:, x.high]
        at_y, at_x = np.nonzero((settled != right) | (settled != under) | (settled != across))
        if len(at_y) > settled.size // 2:
            return None  # noise: looking for candidates would be in vain
        known = list(corners(self._values, self._y, x, at_y, at_x))
        least = np.minimum(np.minimum(*known[:2]), np.minimum(*known[2:]))
        most = np.maximum(np.maximum(*known[:2]), np.maximum(*known[2:]))
        candidates = most >= least.max(-1, keepdims=True)
        return OpenCells(settled, 0.0, at_y, at_x, candidates, None)


def _tally(pixels: Labels, count: int) -> npt.NDArray[np.float64]:
    """Pixels of labels 1…count."""
    if pixels.dtype == np.uint8:  # OpenCV's histogram is exact below 2**24 pixels a value
        whole = np.zeros(count)
        for start in range(0, len(pixels), 1 << 23):
            some = pixels[start : start + (1 << 23)].reshape(1, -1)
            whole += cv2.calcHist([some], [0], None, [256], [0, 256]).reshape(-1)[1 : count + 1]
        return whole
    return np.bincount(pixels, minlength=count + 1)[1:].astype(np.float64)
