"""Mask R-CNN: the detections of torchvision's own model, from its parts."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from tiny_checkpoints import root
from tiny_torchvision import SIZE, tiny_maskrcnn

from pipeline.models.info import ModelInfo, describe
from pipeline.models.maskrcnn import MaskRcnn
from pipeline.models.torchvision_files import load_torchvision
from schemas.config import ModelConfig
from schemas.records import ImageRecord, Sample

ODD_SIZES = [(37, 53), (131, 97), (64, 64), (9, 70), (201, 300), (1, 1)]


@cache
def info() -> ModelInfo:
    return describe(str(tiny_maskrcnn(root() / "maskrcnn-itself")))


@cache
def torchvisions_own() -> Any:
    net: Any = load_torchvision(info())
    net.transform.min_size = (SIZE["shortest_edge"],)
    net.transform.max_size = SIZE["longest_edge"]
    return net


def loaded(**options: Any) -> MaskRcnn:
    given = ModelConfig.model_validate({"name": info().folder, **options})
    model = MaskRcnn(info(), given, ("instance",))
    model.load("cpu")
    return model


def sample(hw: tuple[int, int], seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (hw[0] // 16 + 2, hw[1] // 16 + 2, 3), np.uint8)
    pixels = cv2.resize(small, hw[::-1], interpolation=cv2.INTER_CUBIC)
    return Sample(ImageRecord("a", ""), pixels, hw)


def forward(one: Sample) -> dict[str, torch.Tensor]:
    """torchvision's detections in pixels of the picture."""
    image = torch.from_numpy(one.pixels).permute(2, 0, 1).float() / 255
    with torch.inference_mode():
        (found,) = torchvisions_own()([image])
    return found


@pytest.mark.parametrize("hw", ODD_SIZES)
def test_boxes_and_scores_are_torchvisions(hw: tuple[int, int]):
    model = loaded(threshold=0.05)
    one = sample(hw)
    shared: Any = model._shared
    with torch.inference_mode():
        pixels, frames = shared._fitter.batch([one])
        (found,) = shared._net.look(pixels, frames)["instance"]
    expected = forward(one)
    assert len(expected["boxes"]) > 5
    (height, width), content = hw, frames[0].content_hw
    ratio = torch.tensor([width / content[1], height / content[0]] * 2)
    torch.testing.assert_close(found.boxes_xyxy * ratio, expected["boxes"], atol=1e-3, rtol=0)
    torch.testing.assert_close(found.scores, expected["scores"], atol=1e-3, rtol=0)
    assert torch.equal(found.labels, expected["labels"])
    assert found.mask_probs.shape == (len(found.labels), 28, 28)


@pytest.mark.parametrize("hw", [(131, 97), (201, 300), (480, 641)])
def test_masks_are_torchvisions(hw: tuple[int, int]):
    """Its pasting rounds boxes to whole pixels: small and thin masks may differ by as much."""
    one = sample(hw)
    (found,) = loaded(threshold=0.05).segment([one])
    expected = forward(one)
    known = [index for index, label in enumerate(expected["labels"].tolist()) if label in (1, 2)]
    compared = 0
    segments = iter(found.segments)
    for index in known:
        theirs = (expected["masks"][index, 0] > 0.5).numpy()
        if not theirs.any():
            continue
        segment = next(segments)
        assert segment.category_id == {1: 17, 2: 18}[int(expected["labels"][index])]
        assert segment.score == pytest.approx(float(expected["scores"][index]), abs=1e-3)
        mask = coco_mask.decode({"size": list(hw), "counts": segment.counts}).astype(bool)
        left, top, right, bottom = expected["boxes"][index].tolist()
        if min(right - left, bottom - top) < 30:
            continue
        compared += 1
        assert (mask & theirs).sum() / (mask | theirs).sum() > 0.98
    assert compared >= 3


def test_a_threshold_takes_the_same_detections_as_sorting_out_afterwards():
    one = sample((131, 97))
    (everything,) = loaded(threshold=0.05).segment([one])
    limit = sorted(s.score for s in everything.segments)[len(everything.segments) // 2]
    (some,) = loaded(threshold=limit).segment([one])
    assert 0 < len(some.segments) < len(everything.segments)
    assert list(some.segments) == [s for s in everything.segments if s.score > limit]


def test_in_bfloat16_boxes_stay_within_a_pixel():
    """Coordinates are never rounded to 8 bits of mantissa."""
    one = sample((201, 300))
    full, half = (loaded(threshold=0.05, dtype=dtype)._shared for dtype in ("float32", "bfloat16"))
    with torch.inference_mode():
        pixels, frames = full._fitter.batch([one])
        (exact,) = full._net.look(pixels, frames)["instance"]
        (rounded,) = half._net.look(pixels, frames)["instance"]
    assert rounded.boxes_xyxy.dtype == torch.float32
    assert not torch.equal(rounded.boxes_xyxy, rounded.boxes_xyxy.bfloat16().float())
    nearest = torch.cdist(exact.boxes_xyxy, rounded.boxes_xyxy, p=float("inf")).min(1).values
    assert nearest.median() < 1
