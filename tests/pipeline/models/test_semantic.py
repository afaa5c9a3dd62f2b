"""The family `semantic`: the labels of transformers, from its processor to its last step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_checkpoints import checkpoint

from pipeline.masks import codec
from pipeline.models.checkpoints.info import describe
from pipeline.models.semantic import SemanticSegmenter
from schemas.config.model import ModelConfig
from schemas.records import ImageRecord, Sample

NAMES = ("beit", "data2vec", "dpt", "mobilenetv2", "sapiens2", "segformer", "tipsv2-dpt", "upernet")
"""Those that are resized to one size."""
SIZES = ((64, 64), (47, 90), (101, 33))
"""That of most inputs; odd; a portrait."""


def theirs(name: str, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """H×W: the outputs that transformers finds, and which pixels rounding may turn."""
    folder = checkpoint(name)
    processor: Any = transformers.AutoImageProcessor.from_pretrained(folder)
    model: Any = transformers.AutoModelForSemanticSegmentation.from_pretrained(folder).eval()
    hw = pixels.shape[:2]
    with torch.no_grad():
        found = model(**processor(pixels, return_tensors="pt", input_data_format="channels_last"))
    (best,) = processor.post_process_semantic_segmentation(found, target_sizes=[hw])
    whole = torch.nn.functional.interpolate(found.logits, hw, mode="bilinear", align_corners=False)
    first, second = whole[0].topk(2, dim=0).values
    return best.numpy(), ((first - second) <= 1e-4 * whole.abs().max()).numpy()


@pytest.mark.parametrize("hw", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_labels_are_those_of_transformers(name: str, hw: tuple[int, int]) -> None:
    info = describe(str(checkpoint(name)))
    model = SemanticSegmenter(info, ModelConfig(name="x"), ("semantic",))
    model.load("cpu")
    pixels = np.random.default_rng(sum(hw)).integers(0, 256, (*hw, 3), np.uint8)
    (found,) = model.segment([Sample(ImageRecord("a", ""), pixels, hw)])
    assert found.failure is None
    ours = np.full(hw, -1)
    for segment in found.segments:
        ours[codec.decode(segment.counts, *hw) > 0] = info.category_ids.index(segment.category_id)
    best, unsure = theirs(name, pixels)
    assert unsure.mean() < 0.2, "a claim about nothing"
    assert ((ours == best) | unsure).all()
