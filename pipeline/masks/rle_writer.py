"""RunWriter: COCO strings of many masks, written while their runs arrive from left to right."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from . import rle
from .codec import Region


class RleWriter:
    """Encodes masks of one picture piece by piece: memory is that of the strings.

    Args:
        masks: How many.
        height: Of the picture, pixels.
        width: Of the same.
    """

    def __init__(self, masks: int, height: int, width: int) -> None:
        self._height = height
        self._pixels = height * width
        # A mask's last run stays open: the next piece may go on where it ends.
        self._open_start = np.zeros(masks, np.int64)
        self._open_end = np.full(masks, -1, np.int64)
        # Of what is already text: runs, where the last ended, and the two lengths that COCO's
        # differences refer to.
        self._runs = np.zeros(masks, np.int64)
        self._end = np.zeros(masks, np.int64)
        self._zeros = np.zeros(masks, np.int64)
        self._ones = np.zeros(masks, np.int64)
        self._text: list[list[bytes]] = [[] for _ in range(masks)]
        self._area = np.zeros(masks, np.int64)
        self._corner = np.full((masks, 2), self._pixels, np.int64)  # left, top
        self._far = np.zeros((masks, 2), np.int64)  # right, bottom, one past the last

    def write(self, mask: npt.NDArray[np.integer], starts: rle.Ints, ends: rle.Ints) -> None:
        """Takes further runs; those that touch become one.

        Args:
            mask: Index 0… of the mask that each run belongs to, ascending.
            starts: First pixel of each run, column-major index; ascending within a mask, and not
                before the end of what it was given earlier.
            ends: One past the last pixel; no run is empty.
        """
        if not len(mask):
            return
        here = mask[np.append(True, mask[1:] != mask[:-1])]
        going_on = here[self._open_end[here] >= 0]
        mask = np.concatenate((going_on, mask))
        order = np.argsort(mask, kind="stable")
        mask = mask[order]
        starts = np.concatenate((self._open_start[going_on], starts))[order]
        ends = np.concatenate((self._open_end[going_on], ends))[order]
        apart = (mask[1:] != mask[:-1]) | (starts[1:] > ends[:-1])
        begins, last = np.append(True, apart), np.append(apart, True)
        mask, starts, ends = mask[begins], starts[begins], ends[last]
        last = np.append(mask[1:] != mask[:-1], True)
        self._close(mask[~last], starts[~last], ends[~last])
        self._open_start[mask[last]] = starts[last]
        self._open_end[mask[last]] = ends[last]

    def finish(self) -> Iterator[Region]:
        """The masks that have pixels, labelled with their index + 1, in that order; once."""
        (full,) = np.nonzero(self._open_end >= 0)
        self._close(full, self._open_start[full], self._open_end[full])
        tail = self._pixels - self._end[full]
        tailed = full[tail > 0]
        numbers = tail[tail > 0] - np.where(self._runs[tailed] >= 2, self._zeros[tailed], 0)
        self._append(tailed, np.arange(len(tailed)), numbers)
        boxes = np.hstack((self._corner, self._far - self._corner))[full].tolist()
        for index, area, (x, y, w, h) in zip(
            full.tolist(), self._area[full].tolist(), boxes, strict=True
        ):
            pieces, self._text[index] = self._text[index], []
            yield Region(index + 1, b"".join(pieces), area, (x, y, w, h))

    def _close(self, mask: npt.NDArray[np.integer], starts: rle.Ints, ends: rle.Ints) -> None:
        """Makes text of whole runs, ascending by mask and start."""
        if not len(mask):
            return
        first = np.flatnonzero(np.append(True, mask[1:] != mask[:-1]))
        last = np.append(first[1:], len(mask)) - 1
        owner = mask[first]
        zeros = starts - _before(ends, first, self._end[owner])
        ones = ends - starts
        place = np.arange(len(mask)) - np.repeat(first, last - first + 1) + self._runs[mask]
        numbers = np.empty(2 * len(mask), np.int64)
        # From the fourth on, a length is written as the difference to the one two before.
        numbers[0::2] = zeros - np.where(place >= 2, _before(zeros, first, self._zeros[owner]), 0)
        numbers[1::2] = ones - np.where(place >= 1, _before(ones, first, self._ones[owner]), 0)
        self._append(owner, 2 * first, numbers)
        self._runs[owner] += last - first + 1
        self._end[owner], self._zeros[owner], self._ones[owner] = (
            ends[last],
            zeros[last],
            ones[last],
        )
        self._area[owner] += np.add.reduceat(ones, first)
        self._measure(owner, first, starts, ends)

    def _measure(
        self, owner: npt.NDArray[np.integer], first: rle.Ints, starts: rle.Ints, ends: rle.Ints
    ) -> None:
        left, top = np.divmod(starts, self._height)
        right, bottom = np.divmod(ends - 1, self._height)
        wraps = right > left  # a run over a column's foot touches both edges
        top[wraps], bottom[wraps] = 0, self._height - 1
        near = np.stack((left, top), axis=1)
        far = np.stack((right, bottom), axis=1) + 1
        self._corner[owner] = np.minimum(self._corner[owner], np.minimum.reduceat(near, first))
        self._far[owner] = np.maximum(self._far[owner], np.maximum.reduceat(far, first))

    def _append(self, owner: npt.NDArray[np.integer], first: rle.Ints, numbers: rle.Ints) -> None:
        text, sizes = rle.digits_of(numbers)
        at = np.append(0, np.cumsum(sizes))
        cuts = at[np.append(first, len(numbers))].tolist()
        for index, begin, end in zip(owner.tolist(), cuts[:-1], cuts[1:], strict=True):
            self._text[index].append(text[begin:end])


def _before(values: rle.Ints, first: rle.Ints, initial: rle.Ints) -> rle.Ints:
    """Each value's predecessor; `initial` where a mask begins."""
    out = np.empty_like(values)
    out[1:] = values[:-1]
    out[first] = initial
    return out
