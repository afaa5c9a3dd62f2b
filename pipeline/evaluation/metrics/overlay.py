"""Two segmentations of the same images laid over each other: a joint histogram of their segments.

The histogram is taken over runs of pixels instead of pixels: all ends of runs of both sides cut
the images into cells that no segment divides, so the pixels that segment i of one side and j of
the other share are the summed lengths of the cells that lie in both. Segments of one side may
overlap each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from pipeline.evaluation.sources.source import Floats, Ints, Segments

from .stack import Stack, cuts_of, run_cells, stack


@dataclass(frozen=True, slots=True)
class ComparedImage:
    """Which image it is.

    Attributes:
        key: Of the ground truth.
        name: For reports.
        height: Pixels.
        width: Pixels.
    """

    key: int | str
    name: str
    height: int
    width: int


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """k images with n true and m predicted segments, of which p pairs share pixels.

    Attributes:
        images: The k images.
        truth: The n true segments.
        predicted: The m predicted segments.
        truth_index: p indices into `truth`.
        predicted_index: p indices into `predicted`.
        shared: p counts of pixels, ≥ 1; of boxes, p areas > 0.
        truth_areas: n areas of masks or boxes, pixels.
        predicted_areas: m areas of masks or boxes, pixels.
        outside: m counts of pixels that no true segment covers.
    """

    images: tuple[ComparedImage, ...]
    truth: Stack
    predicted: Stack
    truth_index: Ints
    predicted_index: Ints
    shared: Ints | Floats
    truth_areas: Ints | Floats
    predicted_areas: Ints | Floats
    outside: Ints

    def iou(self) -> Floats:
        """Intersection over union of the p pairs, 0…1."""
        return self.shared / (
            self.truth_areas[self.truth_index]
            + self.predicted_areas[self.predicted_index]
            - self.shared
        )


def overlay(images: Sequence[ComparedImage], truth: Stack, predicted: Stack) -> Comparison:
    """Measures how the segments of both sides overlap.

    Args:
        images: The k images.
        truth: Their true segments.
        predicted: Their predicted segments; sizes must agree.
    """
    cuts = cuts_of(truth, predicted)
    lengths = np.diff(cuts)
    (true_cells, true_owner), (cells, owner) = (
        run_cells(side, cuts) for side in (truth, predicted)
    )
    n, m, size = len(truth), len(predicted), len(lengths)
    left = sparse.csr_array((lengths[true_cells], (true_owner, true_cells)), shape=(n, size))
    ones = np.ones(len(cells), np.int64)
    right = sparse.csr_array((ones, (cells, owner)), shape=(size, m))
    joint = sparse.coo_array(left @ right)
    outside = np.ones(size, np.bool_)
    outside[true_cells] = False
    beyond = np.bincount(owner, weights=lengths[cells] * outside[cells], minlength=m)
    return Comparison(
        images=tuple(images),
        truth=truth,
        predicted=predicted,
        truth_index=joint.coords[0].astype(np.int64),
        predicted_index=joint.coords[1].astype(np.int64),
        shared=joint.data.astype(np.int64),
        truth_areas=truth.areas(),
        predicted_areas=predicted.areas(),
        outside=beyond.astype(np.int64),
    )


def compare_one(name: str, truth: Segments, predicted: Segments) -> Comparison:
    """Measures how the segments of both sides of one image overlap.

    Raises:
        ValueError: The sides differ in size, or a mask is malformed.
    """
    if (truth.height, truth.width) != (predicted.height, predicted.width):
        raise ValueError(
            f"{name}: one side is {truth.width}x{truth.height}, "
            f"the other {predicted.width}x{predicted.height} pixels"
        )
    image = ComparedImage(name, name, truth.height, truth.width)
    return overlay([image], stack([truth], [name]), stack([predicted], [name]))
