"""A real picture of more than 20 megapixels in tiles, against the same network on it untiled."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.masks import codec
from pipeline.models.checkpoints.info import describe
from pipeline.models.tiling.tiled import Tiled
from pipeline.models.unet import UNetSegmenter
from schemas.config.model import ModelConfig, TilingConfig
from schemas.records import ImageRecord, Sample


def mosaic(shared_data: Path) -> np.ndarray:
    """The largest picture of nuclei, four times four, mirrored so that its rims meet themselves."""
    root = shared_data / "nuclei-dsb2018"
    index = json.loads((root / "index.json").read_text())["images"]
    (each,) = (item for item in index if (item["height"], item["width"]) == (1040, 1388))
    one = cv2.imread(str(root / each["image"]))
    assert one is not None
    row = np.hstack([one, one[:, ::-1]] * 2)
    return np.ascontiguousarray(np.vstack([row, row[::-1]] * 2)[..., ::-1])


@pytest.mark.slow
def test_twenty_megapixels_in_tiles_hold_the_nuclei_of_the_picture_in_one_piece(
    shared_data: Path,
) -> None:
    pixels = mosaic(shared_data)
    hw = (pixels.shape[0], pixels.shape[1])
    assert hw[0] * hw[1] > 20e6
    info, options = describe("unet-nuclei"), ModelConfig(name="unet-nuclei")
    plain = UNetSegmenter(info, options, ("instance",))
    plain.load("cpu")
    sample = Sample(ImageRecord("m", ""), pixels, hw)
    (whole,) = plain.segment([sample])
    tiling = TilingConfig(size=768, overlap=128)  # another grid than the network's own of 1024
    (found,) = Tiled(plain, info, ("instance",), options=options, tiling=tiling).segment([sample])
    assert len(whole.segments) > 100
    assert abs(len(found.segments) - len(whole.segments)) <= 0.02 * len(whole.segments)
    best = codec.iou(
        [one.counts for one in whole.segments], [one.counts for one in found.segments], *hw
    ).max(1)
    assert (best > 0.9).mean() > 0.97
