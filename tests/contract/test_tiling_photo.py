"""A photo of 20 megapixels in tiles against the same in one piece, at equal scale."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
from skimage import data
from tiny_checkpoints import checkpoint

from pipeline.masks import codec
from pipeline.models.checkpoints.families import segmenter_class
from pipeline.models.checkpoints.info import describe
from pipeline.models.tiling.tiled import Tiled
from schemas.config.model import ModelConfig, TilingConfig
from schemas.records import ImageRecord, Sample, Segmentation, Task

HW = (3660, 5480)


@cache
def photo() -> Sample:
    """Photographed coins by the hundred, among scenes: edges that no tile's grid knows of."""
    coins = np.repeat(data.coins()[..., None], 3, axis=2)
    scenes = [np.tile(coins, (5, 7, 1)), data.coffee(), data.chelsea(), np.tile(coins, (3, 3, 1))]
    half = (HW[0] // 2, HW[1] // 2)
    parts = [cv2.resize(one, half[::-1], interpolation=cv2.INTER_AREA) for one in scenes]
    whole = np.vstack([np.hstack(parts[:2]), np.hstack(parts[2:])])
    noise = np.random.default_rng(0).integers(-6, 7, whole.shape)
    pixels = (whole.astype(np.int16) + noise).clip(0, 255).astype(np.uint8)
    return Sample(ImageRecord("a", ""), pixels, HW)


def labelled(name: str, task: Task, tile: int, overlap: int) -> Segmentation:
    info = describe(name)
    options = ModelConfig(name=name)
    inner: Any = segmenter_class(info.family)(info, options, (task,))
    model: Any = inner
    if tile:
        tiling = TilingConfig(size=tile, overlap=overlap)
        model = Tiled(inner, info, (task,), options=options, tiling=tiling)
    model.load("cpu")
    (found,) = model.segment([photo()])
    assert found.failure is None
    return found


@pytest.mark.slow
def test_objects_are_the_same_to_the_last_pixel() -> None:
    whole = labelled("otsu", "instance", 0, 0)
    tiled = labelled("otsu", "instance", 1024, 192)
    assert len(whole.segments) > 500
    masks = [
        sorted((one.bbox_xywh, one.counts) for one in each.segments) for each in (whole, tiled)
    ]
    assert masks[0] == masks[1]


@pytest.mark.slow
def test_maps_of_a_network_are_the_same_but_for_rounding() -> None:
    name = str(checkpoint("smp-unet"))
    whole, tiled = (labelled(name, "semantic", *how) for how in ((0, 0), (1024, 128)))
    maps = []
    for found in (whole, tiled):
        numbers = np.zeros(HW, np.uint8)
        for one in found.segments:
            numbers[codec.decode(one.counts, *HW) > 0] = one.category_id
        maps.append(numbers)
    assert len(np.unique(maps[0])) > 2
    assert (maps[0] != maps[1]).mean() < 1e-3
