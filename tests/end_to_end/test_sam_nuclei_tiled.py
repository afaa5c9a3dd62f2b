"""SAM "everything" in tiles, on real nuclei: no mask comes out twice, none is lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.masks import codec
from pipeline.masks.overlap import overlaps
from pipeline.models.checkpoints.info import describe
from pipeline.models.sam import SamSegmenter
from pipeline.models.tiling.tiled import Tiled
from pipeline.prompts.request import Request
from schemas.config.model import ModelConfig, TilingConfig
from schemas.config.prompts import EverythingConfig
from schemas.records import ImageRecord, Sample, Segment

GRID = EverythingConfig(points_per_side=24, pred_iou_thresh=0.6, stability_score_thresh=0.6)


def twice(segments: tuple[Segment, ...], hw: tuple[int, int]) -> int:
    """Pairs of masks that share more than the share at which SAM calls boxes the same."""
    iou, _ = overlaps(segments, *hw)
    return int((np.triu(iou, 1) > GRID.box_nms_thresh).sum())


@pytest.mark.slow
def test_tiles_give_the_masks_of_the_whole_picture_once(shared_data: Path) -> None:
    root = shared_data / "nuclei-dsb2018"
    index = json.loads((root / "index.json").read_text())["images"]
    (each,) = (item for item in index if (item["height"], item["width"]) == (1040, 1388))
    whole = cv2.imread(str(root / each["image"]))
    assert whole is not None
    pixels = np.ascontiguousarray(whole[:256, 256:704, ::-1])
    hw = (256, 448)
    info = describe(str(shared_data / "weights" / "sam-nuclei-tiny"))
    info = replace(info, asking=Request(everything=GRID))
    options = ModelConfig(name="m")
    plain = SamSegmenter(info, options, ("instance",))
    plain.load("cpu")
    sample = Sample(ImageRecord("n", ""), pixels, hw)
    (one,) = plain.segment([sample])
    tiling = TilingConfig(size=256, overlap=128)
    tiled = Tiled(plain, info, ("instance",), options=options, tiling=tiling)
    (many,) = tiled.segment([sample])
    assert 5 <= len(one.segments) >= len(many.segments) / 1.1
    assert twice(many.segments, hw) <= twice(one.segments, hw)
    best = codec.iou(
        [found.counts for found in one.segments], [found.counts for found in many.segments], *hw
    ).max(1)
    assert (best > 0.5).mean() > 0.85, "what the whole picture shows is there"
