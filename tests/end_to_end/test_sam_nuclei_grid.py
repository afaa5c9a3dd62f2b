"""A SAM with real weights, trained on nuclei, finds with a grid what its own page says it finds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.masks import codec, overlap
from pipeline.models.checkpoints.info import describe
from pipeline.models.sam import SamSegmenter
from pipeline.prompts.request import Request
from schemas.config.model import ModelConfig
from schemas.config.prompts import ConflictsConfig, EverythingConfig
from schemas.records import ImageRecord, Sample

EASY, CROWDED = "0b2e702f", "3bf7873f"
"""First digits of two test pictures: 5 and 66 nuclei."""


def opened(folder: Path, start: str) -> tuple[np.ndarray, np.ndarray]:
    rows = json.loads((folder / "index.json").read_text())["images"]
    (row,) = (one for one in rows if one["id"].startswith(start))
    pixels = np.array(Image.open(folder / row["image"]).convert("RGB"))
    return pixels, np.array(Image.open(folder / row["label"])).astype(int)


def found_of(data: Path, start: str, settings: dict[str, Any]) -> int:
    """Nuclei that a mask of its own covers with an IoU above a half."""
    pixels, label_map = opened(data / "nuclei-dsb2018", start)
    model = describe(str(data / "weights" / "sam-nuclei-tiny"))
    model = replace(model, asking=Request(everything=EverythingConfig(**settings)))
    segmenter = SamSegmenter(model, ModelConfig(name="x"), ("instance",))
    segmenter.load("cpu")
    height, width = label_map.shape
    (answer,) = segmenter.segment([Sample(ImageRecord("", ""), pixels, (height, width))])
    parted = ConflictsConfig(nms_iou=1.0, nms_ios=1.0, non_overlap=True)
    kept = overlap.resolve_overlaps(answer.segments, parted, height=height, width=width)
    mine = [codec.decode(one.counts, height, width) > 0 for one in kept]
    hits = 0
    for number in range(1, label_map.max() + 1):
        nucleus = label_map == number
        hits += any((nucleus & one).sum() > (nucleus | one).sum() / 2 for one in mine)
    return hits


def test_the_grid_finds_what_the_weights_page_says(shared_data: Path) -> None:
    grid = {"points_per_side": 24, "pred_iou_thresh": 0.6, "stability_score_thresh": 0.6}
    assert found_of(shared_data, EASY, grid) == 5
    assert 17 <= found_of(shared_data, CROWDED, grid) <= 20  # the page says 18


def test_lower_thresholds_and_more_points_find_more(shared_data: Path) -> None:
    tuned = {"points_per_side": 32, "pred_iou_thresh": 0.5, "stability_score_thresh": 0.5}
    assert found_of(shared_data, CROWDED, tuned) >= 23
