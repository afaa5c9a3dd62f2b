"""RF-DETR: the pairs, scores and masks of transformers' own post-processing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import transformers
from tiny_checkpoints import checkpoint

from pipeline.masks import codec
from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.checkpoints.info import describe
from pipeline.models.network.fit import Fitter
from pipeline.models.rf_detr import RfDetrSegmenter
from schemas.config.model import ModelConfig
from schemas.records import ImageRecord, Sample


def sample(hw: tuple[int, int], seed: int = 0) -> Sample:
    small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), np.uint8)
    pixels = cv2.resize(small, hw[::-1], interpolation=cv2.INTER_CUBIC)
    return Sample(ImageRecord("a", ""), np.ascontiguousarray(pixels), hw)


def loaded(threshold: float) -> RfDetrSegmenter:
    info = describe(str(checkpoint("rf-detr")))
    options = ModelConfig(name="m", threshold=threshold)
    model = RfDetrSegmenter(info, options, ("instance",))
    model.load("cpu")
    return model


@pytest.mark.parametrize("hw", [(96, 128), (77, 50), (64, 64)])
@pytest.mark.parametrize("threshold", [0.0, 0.6])
def test_instances_are_those_of_transformers(hw: tuple[int, int], threshold: float) -> None:
    folder = checkpoint("rf-detr")
    network: Any = transformers.RfDetrForInstanceSegmentation.from_pretrained(folder).eval()
    processor: Any = transformers.AutoImageProcessor.from_pretrained(folder)
    one = sample(hw)
    given = processor(one.pixels, return_tensors="pt", input_data_format="channels_last")
    with torch.no_grad():
        answer = network(**given)
    (theirs,) = processor.post_process_instance_segmentation(
        answer, threshold=threshold, target_sizes=[hw], return_binary_maps=True
    )
    (found,) = loaded(threshold).segment([one])
    masks = np.asarray(theirs["segmentation"]).astype(np.uint8)
    expected = [
        (entry["label_id"] + 1, entry["score"], mask)
        for entry, mask in zip(theirs["segments_info"], masks, strict=True)
        if mask.any()
    ]
    assert len(found.segments) == len(expected) > 0
    for segment, (category, score, mask) in zip(found.segments, expected, strict=True):
        assert segment.category_id == category
        assert segment.score == pytest.approx(score, abs=1e-4)
        assert (codec.decode(segment.counts, *hw) != mask).sum() <= 1


@pytest.mark.parametrize("hw", [(96, 128), (77, 50), (1, 1), (300, 40)])
def test_the_input_is_the_processors_but_for_the_last_bit(hw: tuple[int, int]) -> None:
    folder = checkpoint("rf-detr")
    processor: Any = transformers.AutoImageProcessor.from_pretrained(folder)
    one = sample(hw)
    given = processor(one.pixels, return_tensors="pt", input_data_format="channels_last")
    found, _ = Fitter(read_fit_rule(preprocessor(folder)), "cpu").batch([one])
    torch.testing.assert_close(found, given["pixel_values"], atol=1e-5, rtol=0)


def test_pictures_do_not_know_of_one_another() -> None:
    batch = [sample((50, 70)), sample((33, 90), 1), sample((50, 70), 2)]
    model = loaded(0.0)
    assert model.segment(batch) == [model.segment([one])[0] for one in batch]


def test_a_size_that_its_windows_cannot_take_is_refused(tmp_path: Path) -> None:
    shutil.copytree(checkpoint("rf-detr"), tmp_path / "m")
    path = tmp_path / "m" / "preprocessor_config.json"
    edges = {"shortest_edge": 64, "longest_edge": 128}
    path.write_text(json.dumps({**json.loads(path.read_text()), "size": edges}))
    with pytest.raises(ValueError, match="a height and a width"):
        RfDetrSegmenter(describe(str(tmp_path / "m")), ModelConfig(name="m"), ("instance",))
