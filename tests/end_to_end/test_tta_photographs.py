"""Real weights on real photographs: several views label better than one, and know where not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.models.checkpoints.info import ModelInfo, describe
from pipeline.models.semantic import SemanticSegmenter
from schemas.config.model import ModelConfig
from schemas.records import ImageRecord, Sample
from tests.end_to_end.test_deeplab_voc import label_map, painted

pytestmark = pytest.mark.slow


def loaded(info: ModelInfo, **tta: Any) -> SemanticSegmenter:
    options = ModelConfig.model_validate({"name": info.name, "tta": tta})
    model = SemanticSegmenter(info, options, ("semantic",))
    model.load("cpu")
    return model


def test_views_raise_the_accuracy_and_agree_where_it_is_right(shared_data: Path):
    info = describe(str(shared_data / "weights" / "deeplabv3-mobilenetv2-0.5-voc"))
    plain = loaded(info)
    several = loaded(info, scales=[0.75, 1, 1.25])
    folder = shared_data / "coco-photos"
    truth = json.loads((folder / "instances.json").read_text())
    index = {name: int(number) for number, name in info.config["id2label"].items()}
    right = np.zeros(2)
    pixels = 0
    agreements: dict[bool, list[float]] = {True: [], False: []}
    for image in truth["images"][::4]:
        data = cv2.imread(str(folder / "images" / image["file_name"]), cv2.IMREAD_COLOR)
        picture = np.ascontiguousarray(data[..., ::-1])
        sample = Sample(ImageRecord(image["file_name"], ""), picture, picture.shape[:2])
        wanted = painted(truth, image, index)
        answers = [model.segment([sample])[0] for model in (plain, several)]
        maps = [label_map(found, info.category_ids) for found in answers]
        right += [(labels == wanted).sum() for labels in maps]
        pixels += wanted.size
        for segment in answers[1].segments:
            number = info.category_ids.index(segment.category_id)
            found, there = maps[1] == number, wanted == number
            good = (found & there).sum() / (found | there).sum() >= 0.5
            assert segment.tta_agreement is not None
            if number:  # not the background
                agreements[bool(good)].append(segment.tta_agreement)
    accuracy = right / pixels
    assert accuracy[1] > accuracy[0] + 0.002
    assert np.mean(agreements[True]) > np.mean(agreements[False]) + 0.05
