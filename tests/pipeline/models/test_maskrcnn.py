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
from tiny_torchvision import INSTANCE_IDS, SIZE, tiny_maskrcnn

from pipeline.models.checkpoints.info import ModelInfo, describe
from pipeline.models.checkpoints.torchvision_files import load_torchvision
from pipeline.models.maskrcnn import MaskRcnn
from schemas.config.model import ModelConfig
from schemas.records import ImageRecord, Sample

ODD_SIZES = [(37, 53), (131, 97), (64, 64), (29, 70), (201, 300), (1, 1)]


@cache
def info() -> ModelInfo:
    return describe(str(tiny_maskrcnn(root() / "maskrcnn-itself")))


@cache
def torchvisions_own() -> Any:
    net: Any = load_torchvision(info())
    net.transform.min_size = (SIZE["shortest_edge"],)
    net.transform.max_size = SIZE["longest_edge"]
    return net


@cache
def loaded(**options: Any) -> MaskRcnn:
    """Of each options one for all tests."""
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
        pixels, frames = shared.fitter.batch([one])
        (found,) = shared._net.look(pixels, frames)["instance"]
    expected = forward(one)
    assert len(expected["boxes"]) > 5
    (height, width), content = hw, frames[0].content_hw
    ratio = torch.tensor([width / content[1], height / content[0]] * 2)
    # Scores to a thousandth, boxes to a hundredth of a pixel: float32 sums differ with the threads.
    ours = torch.cat(
        [found.boxes_xyxy * ratio / 10, found.scores[:, None], found.labels[:, None]], 1
    )
    theirs = torch.cat(
        [expected["boxes"] / 10, expected["scores"][:, None], expected["labels"][:, None]], 1
    )
    assert ours.shape == theirs.shape
    distance = torch.cdist(ours, theirs, p=float("inf"))  # equal scores may come in either order
    assert distance.min(0).values.max() < 1e-3
    assert distance.min(1).values.max() < 1e-3
    assert found.scores.diff().max() <= 0
    assert found.mask_probs.shape == (len(found.labels), 28, 28)


class Blobs(torch.nn.Module):
    """An egg in every box: masks without the noise of a random network."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        y, x = torch.meshgrid(*[torch.linspace(-1, 1, 28)] * 2, indexing="ij")
        egg = 5 * (0.8 - (x / (0.9 + 0.3 * y)).square() - y.square())
        return egg.expand(len(features), len(INSTANCE_IDS), 28, 28)


@pytest.mark.parametrize("hw", [(131, 97), (201, 300)])
def test_masks_are_torchvisions(hw: tuple[int, int], monkeypatch: pytest.MonkeyPatch):
    """Its pasting rounds boxes to whole pixels, so a mask's rim may lie up to two off."""
    one = sample(hw)
    model = loaded(threshold=0.05)
    ours: Any = model._shared._net
    for heads in (ours._heads, torchvisions_own().roi_heads):
        monkeypatch.setitem(heads._modules, "mask_predictor", Blobs())
    expected = forward(one)
    theirs = [
        (label, score, (mask[0] > 0.5).numpy())
        for label, score, mask in zip(
            expected["labels"].tolist(),
            expected["scores"].tolist(),
            expected["masks"],
            strict=True,
        )
        if label in (1, 2)
    ]
    (found,) = model.segment([one])
    assert len(found.segments) == len(theirs) > 5
    around = np.ones((5, 5), np.uint8)
    for segment, (label, score, expected_mask) in zip(found.segments, theirs, strict=True):
        assert segment.category_id == {1: 17, 2: 18}[label]
        assert segment.score == pytest.approx(score, abs=1e-3)
        rle: Any = {"size": list(hw), "counts": segment.counts}
        mask, their_mask = coco_mask.decode(rle), expected_mask.astype(np.uint8)
        outer = cv2.dilate(their_mask, around)
        assert not (mask & ~outer & 1).any()
        inner = cv2.erode(their_mask, around, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        assert not (inner & ~mask & 1).any()
        if min(segment.bbox_xywh[2:]) > 128:
            assert (mask & their_mask).sum() / (mask | their_mask).sum() > 0.98


def test_a_threshold_takes_the_same_detections_as_sorting_out_afterwards():
    one = sample((131, 97))
    (everything,) = loaded(threshold=0.05).segment([one])
    scores = sorted(s.score for s in everything.segments if s.score is not None)
    middle = len(scores) // 2
    limit = (scores[middle - 1] + scores[middle]) / 2
    (some,) = loaded(threshold=limit).segment([one])
    expected = [s for s in everything.segments if s.score is not None and s.score > limit]
    assert 0 < len(expected) < len(everything.segments)
    assert list(some.segments) == expected


def test_in_bfloat16_boxes_stay_within_a_pixel():
    """Coordinates are never rounded to 8 bits of mantissa."""
    one = sample((201, 300))
    full, half = (loaded(threshold=0.05, dtype=dtype)._shared for dtype in ("float32", "bfloat16"))
    with torch.inference_mode():
        pixels, frames = full.fitter.batch([one])
        (exact,) = full._net.look(pixels, frames)["instance"]
        (rounded,) = half._net.look(pixels, frames)["instance"]
    assert rounded.boxes_xyxy.dtype == torch.float32
    assert not torch.equal(rounded.boxes_xyxy, rounded.boxes_xyxy.bfloat16().float())
    nearest = torch.cdist(exact.boxes_xyxy, rounded.boxes_xyxy, p=float("inf")).min(1).values
    assert nearest.median() < 1
