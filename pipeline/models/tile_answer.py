"""TileAnswer: what a model says about a tile, before it is joined with its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from schemas.records import Sample, Segmentation

from .outputs import DenseOutput


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

    def dense(self, batch: Sequence[Sample]) -> list[TileAnswer]:
        """As `segment`, but with the maps in place of the semantic task's segments."""
        ...
