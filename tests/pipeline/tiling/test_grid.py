from __future__ import annotations

import numpy as np
import pytest

from pipeline.tiling.grid import TileEdge
from schemas.records import ImageRecord, Sample

WHOLE = np.zeros((30, 40, 3), np.uint8)


def tile(top: int, left: int, height: int, width: int) -> Sample:
    pixels = WHOLE[top : top + height, left : left + width]
    hw = (height, width)
    return Sample(ImageRecord("a", ""), pixels, hw, whole=WHOLE, corner_yx=(top, left))


@pytest.mark.parametrize(
    ("sample", "edge"),
    [
        (tile(0, 0, 10, 10), TileEdge(bottom=True, right=True)),
        (tile(20, 30, 10, 10), TileEdge(top=True, left=True)),
        (tile(5, 0, 10, 40), TileEdge(top=True, bottom=True)),
        (tile(0, 0, 30, 40), TileEdge()),
        (Sample(ImageRecord("a", ""), WHOLE, (30, 40)), TileEdge()),
    ],
)
def test_the_picture_s_own_edges_cut_nothing(sample: Sample, edge: TileEdge) -> None:
    assert TileEdge.of(sample) == edge


def test_labels_along_the_edges_that_cut() -> None:
    label_map = np.array([[1, 1, 2], [3, 0, 4], [5, 0, 6]], np.int32)
    assert TileEdge().labels(label_map).tolist() == []
    assert TileEdge(top=True).labels(label_map).tolist() == [1, 2]
    assert TileEdge(right=True, bottom=True).labels(label_map).tolist() == [0, 2, 4, 5, 6]
    assert TileEdge(left=True).labels(label_map).tolist() == [1, 3, 5]
