"""Two segmentations of one image laid over each other: a joint histogram of their segments.

The histogram is taken over runs of pixels instead of pixels: all ends of runs of both sides cut
the picture into cells that no segment divides, so the pixels that segment i of one side and j of
the other share are the summed lengths of the cells that lie in both. Segments of one side may
overlap each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from .segments import Floats, Ints, Segments


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """One image with n true and m predicted segments, of which p pairs share pixels.

    Attributes:
        image_id: Of the ground truth.
        name: Of the image, for reports.
        truth: The n true segments.
        predicted: The m predicted segments.
        truth_index: p indices into `truth`.
        predicted_index: p indices into `predicted`.
        shared: p counts of pixels, ≥ 1.
        truth_areas: n mask areas, pixels.
        predicted_areas: m mask areas, pixels.
        outside: m counts of pixels that no true segment covers.
    """

    image_id: int | str
    name: str
    truth: Segments
    predicted: Segments
    truth_index: Ints
    predicted_index: Ints
    shared: Ints
    truth_areas: Ints
    predicted_areas: Ints
    outside: Ints

    def iou(self) -> Floats:
        """Intersection over union of the p pairs, 0…1."""
        return self.shared / (
            self.truth_areas[self.truth_index]
            + self.predicted_areas[self.predicted_index]
            - self.shared
        )


def compare(image_id: int | str, name: str, truth: Segments, predicted: Segments) -> Comparison:
    """Measures how the segments of both sides overlap.

    Raises:
        ValueError: The sides differ in size, or a mask is malformed.
    """
    if (truth.height, truth.width) != (predicted.height, predicted.width):
        raise ValueError(
            f"{name}: ground truth is {truth.width}x{truth.height}, "
            f"prediction {predicted.width}x{predicted.height} pixels"
        )
    sides = truth.runs(), predicted.runs()
    cuts = np.unique(np.concatenate([ends for side in sides for ends in side[:2]]))
    lengths = np.diff(cuts)
    (true_cells, true_owner), (cells, owner) = (_cells(side, cuts) for side in sides)
    n, m, size = len(truth), len(predicted), len(lengths)
    left = sparse.csr_array((lengths[true_cells], (true_owner, true_cells)), shape=(n, size))
    ones = np.ones(len(cells), np.int64)
    right = sparse.csr_array((ones, (cells, owner)), shape=(size, m))
    joint = sparse.coo_array(left @ right)
    outside = np.ones(size, np.bool_)
    outside[true_cells] = False
    return Comparison(
        image_id=image_id,
        name=name,
        truth=truth,
        predicted=predicted,
        truth_index=joint.coords[0].astype(np.int64),
        predicted_index=joint.coords[1].astype(np.int64),
        shared=joint.data.astype(np.int64),
        truth_areas=_sum(true_owner, lengths[true_cells], n),
        predicted_areas=_sum(owner, lengths[cells], m),
        outside=_sum(owner, lengths[cells] * outside[cells], m),
    )


def _cells(runs: tuple[Ints, Ints, Ints], cuts: Ints) -> tuple[Ints, Ints]:
    """Every cell that each run consists of, and the segment that the run belongs to."""
    starts, ends, owner = runs
    first = np.searchsorted(cuts, starts)
    number = np.searchsorted(cuts, ends) - first
    before = np.cumsum(number) - number
    cells = np.arange(number.sum()) + np.repeat(first - before, number)
    return cells, np.repeat(owner, number)


def _sum(index: Ints, values: Ints, size: int) -> Ints:
    # bincount adds in float64, which is exact far beyond any picture's pixels
    return np.bincount(index, weights=values, minlength=size).astype(np.int64)
