"""Real weights on real photographs: DeepLabV3 of PASCAL VOC against COCO's masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pipeline.models.checkpoints.info import describe
from pipeline.models.semantic import SemanticSegmenter
from schemas.config.model import ModelConfig
from schemas.records import ImageRecord, Sample, Segmentation

pytestmark = pytest.mark.slow

VOC_NAMES = {
    "airplane": "aeroplane",
    "couch": "sofa",
    "dining table": "diningtable",
    "motorcycle": "motorbike",
    "potted plant": "pottedplant",
    "tv": "tvmonitor",
}
"""COCO's name of a category → VOC's, where they differ."""


def painted(truth: dict[str, Any], image: dict[str, Any], index: dict[str, int]) -> np.ndarray:
    """H×W, VOC's numbers; larger regions lie under smaller ones."""
    height, width = image["height"], image["width"]
    names = {item["id"]: item["name"] for item in truth["categories"]}
    labels = np.zeros((height, width), np.int64)
    own = [item for item in truth["annotations"] if item["image_id"] == image["id"]]
    for item in sorted(own, key=lambda item: -item["area"]):
        name = names[item["category_id"]]
        number = index.get(VOC_NAMES.get(name, name))
        if number is not None:
            shape = item["segmentation"]
            rles: Any = coco_mask.frPyObjects(shape, height, width)
            rle = coco_mask.merge(rles) if isinstance(shape, list) else rles
            labels[coco_mask.decode(rle) > 0] = number
    return labels


def label_map(found: Segmentation, category_ids: tuple[int, ...]) -> np.ndarray:
    """H×W, the network's own numbers."""
    labels = np.full((found.height, found.width), -1, np.int64)
    for segment in found.segments:
        rle: Any = {"size": [found.height, found.width], "counts": segment.counts}
        labels[coco_mask.decode(rle) > 0] = category_ids.index(segment.category_id)
    assert labels.min() >= 0, "a pixel is nobody's"
    return labels


def test_figures_are_those_of_the_weights_own_page(shared_data: Path):
    """Of the full width; `test_evaluate_voc.py` has those of the half one, through the jobs."""
    info = describe(str(shared_data / "weights" / "deeplabv3-mobilenetv2-1.0-voc"))
    model = SemanticSegmenter(info, ModelConfig(name=info.name), ("semantic",))
    model.load("cpu")
    truth = json.loads((shared_data / "coco-photos" / "instances.json").read_text())
    index = {name: int(number) for number, name in info.config["id2label"].items()}
    table = info.categories.by_id()
    assert [table[id_].is_background for id_ in info.category_ids] == [True] + [False] * 20

    confusion = np.zeros((21, 21), np.int64)
    for image in truth["images"]:
        path = shared_data / "coco-photos" / "images" / image["file_name"]
        pixels = np.ascontiguousarray(cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1])
        record = ImageRecord(image["file_name"], str(path))
        (found,) = model.segment([Sample(record, pixels, pixels.shape[:2])])
        pairs = 21 * painted(truth, image, index) + label_map(found, info.category_ids)
        confusion += np.bincount(pairs.ravel(), minlength=21 * 21).reshape(21, 21)

    hits, true, given = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    present = true > 0
    iou = hits[present] / (true + given - hits)[present]
    assert present.sum() == 18
    assert hits.sum() / confusion.sum() == pytest.approx(0.936, abs=0.003)
    assert iou.mean() == pytest.approx(0.421, abs=0.005)
