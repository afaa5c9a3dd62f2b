"""Points and crops are those of the segment-anything package."""

from __future__ import annotations

import numpy as np
import pytest
from segment_anything.utils import amg

from pipeline.models.sam_core.grid import crops, grid
from schemas.config.prompts import EverythingConfig


@pytest.mark.parametrize("side", [1, 2, 7, 32])
def test_the_grid(side: int) -> None:
    np.testing.assert_array_equal(grid(side), amg.build_point_grid(side))


@pytest.mark.parametrize("hw", [(480, 640), (333, 1024), (1, 1), (37, 5)])
@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("factor", [1, 2])
def test_crops_and_their_points(hw: tuple[int, int], layers: int, factor: int) -> None:
    config = EverythingConfig(
        points_per_side=9, crop_n_layers=layers, crop_n_points_downscale_factor=factor
    )
    found = crops(*hw, config)
    boxes, indices = amg.generate_crop_boxes(hw, layers, config.crop_overlap_ratio)
    pairs = zip(boxes, indices, strict=True)
    expected = [(tuple(b), i) for b, i in pairs if b[2] > b[0] and b[3] > b[1]]
    assert [(crop.box_xyxy, crop.layer) for crop in found] == expected
    grids = amg.build_all_layer_point_grids(9, layers, factor)
    for crop in found:
        left, top, right, bottom = crop.box_xyxy
        np.testing.assert_allclose(
            crop.points_xy, grids[crop.layer] * np.array([[right - left, bottom - top]])
        )
        assert crop.size_hw == (bottom - top, right - left)
