from __future__ import annotations

import numpy as np

from pipeline.masks.codec import encode
from pipeline.tiling.grid import tile_grid
from pipeline.tiling.tile_segments import TileSegments
from schemas.records import Evidence, Segment

LEFT, RIGHT = tile_grid(20, 64, tile=40, overlap=16)


def segment(category: int, box: tuple[int, int, int, int], **more: object) -> Segment:
    x, y, w, h = box
    mask = np.zeros((20, 40), np.uint8)
    mask[y : y + h, x : x + w] = 1
    return Segment(category, encode(mask), w * h, box, **more)  # pyright: ignore


def test_segments_come_back_in_the_picture_s_coordinates() -> None:
    found = TileSegments()
    evidence = Evidence(point_xy=(1.0, 2.0), crop_xywh=(0, 1, 2, 3))
    assert found.add(LEFT, [segment(1, (0, 0, 2, 3), score=0.5)]).tolist() == [0]
    second = [segment(2, (4, 5, 6, 7), evidence=evidence), segment(3, (0, 19, 40, 1))]
    assert found.add(RIGHT, second).tolist() == [1, 2]
    assert len(found) == 3
    assert found.category.tolist() == [1, 2, 3]
    assert found.area.tolist() == [6, 42, 40]
    assert found.boxes_xyxy.tolist() == [[0, 0, 2, 3], [28, 5, 34, 12], [24, 19, 64, 20]]
    assert found.tile.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(found.score, [0.5, np.nan, np.nan])
    assert np.isnan(found.agreement).all()
    assert found.rest(1).evidence == Evidence(point_xy=(25.0, 2.0), crop_xywh=(24, 1, 2, 3))
    runs = found.runs(1, np.array([False, True]))
    assert set(runs.mask.tolist()) == {1}
    assert runs.x.tolist() == list(range(24, 64))
    assert set(runs.top.tolist()) == {19}


def test_strings_can_be_forgotten() -> None:
    found = TileSegments()
    found.add(LEFT, [segment(1, (0, 0, 2, 3))])
    found.forget(0)
    assert len(found.runs(0, np.zeros(1, bool))) == 0
    assert found.area.tolist() == [6]
