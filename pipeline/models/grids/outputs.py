"""What a model says about one picture, on its own grid, before anything is decided.

All tensors of an output lie on one device. Values may be float32, bfloat16 or float16; whoever
merges them computes in float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from schemas.records import Sample, Segmentation

from .geometry import Frame

if TYPE_CHECKING:  # the driver asks whether a family is a `DenseSegmenter`, and loads no torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class DenseOutput:
    """One map a category: semantic models.

    Attributes:
        logits: C×h×w float; the grid covers the whole input, padding included.
        frame: Where the picture lies in the input.
        probabilities: `logits` holds probabilities, or sums of them, instead of logits: no
            softmax is taken of it for scores.
        agreement: h×w float in 0…1, share of the views of test-time augmentation whose best
            category in that cell is the merged one; None without.
    """

    logits: Tensor
    frame: Frame
    probabilities: bool = False
    agreement: Tensor | None = None


@dataclass(frozen=True, slots=True)
class QueryOutput:
    """Q queries, each with a distribution over categories and a mask: universal models.

    Attributes:
        class_logits: Q×(C+1) float, the last column is "nothing".
        mask_logits: Q×h×w float; the grid covers the whole input, padding included.
        frame: Where the picture lies in the input.
        agreement: Q float in 0…1, of test-time augmentation; None without.
        independent: Each category is yes or no for itself (a sigmoid): `class_logits` is Q×C, and
            a query's score is that of its category alone.
    """

    class_logits: Tensor
    mask_logits: Tensor
    frame: Frame
    agreement: Tensor | None = None
    independent: bool = False


@dataclass(frozen=True, slots=True)
class BoxOutput:
    """N detections, each with a small mask inside its box: Mask R-CNN.

    Attributes:
        boxes_xyxy: N×4 float, pixels of the model's input, corners at pixel edges.
        labels: N int, index of the category among the model's outputs.
        scores: N float in 0…1.
        mask_probs: N×m×m float in 0…1, stretched over the box.
        frame: Where the picture lies in the input.
        agreement: N float in 0…1, of test-time augmentation; None without.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    scores: Tensor
    mask_probs: Tensor
    frame: Frame
    agreement: Tensor | None = None


# TileAnswer: what a model says about a tile, before it is joined with its neighbours.


@dataclass(frozen=True, slots=True)
class TileAnswer:
    """A tile's share of the picture's labels.

    Attributes:
        segmentation: What can only be joined segment by segment, in the tile's pixels.
        dense: For the semantic task, whose segments then are not in `segmentation`: the maps
            themselves, which are blended across seams. None = there are none.
    """

    segmentation: Segmentation
    dense: DenseOutput | None = None


@runtime_checkable
class DenseSegmenter(Protocol):
    """A segmenter whose semantic answer is a map a category."""

    @property
    def category_ids(self) -> Sequence[int]:
        """The category of each map, 0 = none."""
        ...

    @property
    def prompts(self) -> Mapping[int, str]:
        """Category id → its prompt, where it has one alone; see `Segment.prompt`."""
        ...

    def dense(self, batch: Sequence[Sample]) -> list[TileAnswer]:
        """As `segment`, but with the maps in place of the semantic task's segments."""
        ...


def logit(probability: float) -> float:
    """ln(p / (1 − p)); infinite at 0 and 1."""
    if not 0 < probability < 1:
        return -math.inf if probability <= 0 else math.inf
    return math.log(probability / (1 - probability))
