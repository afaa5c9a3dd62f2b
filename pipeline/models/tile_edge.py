"""The edges of a tile at which its picture goes on: what touches them is cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.records import Sample


@dataclass(frozen=True, slots=True)
class TileEdge:
    """Which edges cut. None of them does where a picture is in one piece.

    Attributes:
        top: The picture goes on above.
        bottom: It goes on below.
        left: It goes on to the left.
        right: It goes on to the right.
    """

    top: bool = False
    bottom: bool = False
    left: bool = False
    right: bool = False

    @classmethod
    def of(cls, sample: Sample) -> TileEdge:
        """The edges of a sample, a tile or not."""
        if sample.whole is None:
            return cls()
        top, left = sample.corner_yx
        height, width = sample.original_hw
        return cls(
            top=top > 0,
            bottom=top + height < sample.whole.shape[0],
            left=left > 0,
            right=left + width < sample.whole.shape[1],
        )

    def labels(self, label_map: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
        """The labels that are cut: such regions are judged once they are whole.

        Args:
            label_map: Of the tile, HxW.

        Returns:
            Ascending, 0 included where it is there.
        """
        sides = (
            (self.top, label_map[0]),
            (self.bottom, label_map[-1]),
            (self.left, label_map[:, 0]),
            (self.right, label_map[:, -1]),
        )
        cut = [label_map[:0, 0], *(labels for inside, labels in sides if inside)]
        return np.unique(np.concatenate(cut))
