"""Enlarging, stability and boxes are those of the segment-anything package, and of SAM 2."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything.modeling.sam import Sam
from segment_anything.utils import amg
from tiny_sam import tiny_sam
from torch.nn import functional

from pipeline.models.grids.geometry import FitRule, Frame, Padding, Size
from pipeline.models.sam_core import masks
from pipeline.models.sam_core.masks import Enlarging, boxes_of, judge, paint_logits

RULE = FitRule(size=Size("within", 64, 64), padding=Padding(to_hw=(64, 64)))
SIZES = [(48, 64), (100, 37), (1, 1), (17, 90), (64, 64)]


def blobs(count: int, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    coarse = torch.randn(count, 1, 5, 5) * 6
    return functional.interpolate(coarse, (16, 16), mode="bicubic")[:, 0]


@pytest.mark.parametrize("hw", SIZES)
def test_two_steps_are_the_package_s(hw: tuple[int, int]) -> None:
    model: Sam = tiny_sam("package")
    frame = RULE.frame(hw)
    small = blobs(7)
    expected = model.postprocess_masks(small[:, None], frame.content_hw, hw)[:, 0]
    torch.testing.assert_close(Enlarging(frame, True)(small), expected, rtol=0, atol=0)


def test_one_step_is_sam_2_s() -> None:
    frame = Frame((33, 50), (64, 64), (64, 64))
    small = blobs(3)
    expected = functional.interpolate(small[:, None], (33, 50), mode="bilinear")[:, 0]
    torch.testing.assert_close(Enlarging(frame, False)(small), expected, rtol=0, atol=0)


@pytest.mark.parametrize("hw", SIZES)
@pytest.mark.parametrize("chunk", [1, 1 << 26])
def test_stability_boxes_and_pixels(
    hw: tuple[int, int], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, "CHUNK_PIXELS", chunk)
    enlarging = Enlarging(RULE.frame(hw), True)
    small = torch.cat([blobs(9), torch.full((1, 16, 16), -9.0), torch.full((1, 16, 16), 9.0)])
    logits = enlarging(small)
    stability, boxes = judge(small, enlarging, threshold=0.0, offset=1.0)
    expected = amg.calculate_stability_score(logits, 0.0, 1.0)
    np.testing.assert_array_equal(stability.numpy(), expected.numpy())
    np.testing.assert_array_equal(boxes.numpy(), amg.batched_mask_to_box(logits > 0).numpy())
    painted = paint_logits(small, enlarging, threshold=0.0)
    np.testing.assert_array_equal(painted.numpy().transpose(0, 2, 1), (logits > 0).numpy())
    assert painted.is_contiguous()


def test_no_masks_at_all() -> None:
    enlarging = Enlarging(RULE.frame((20, 30)), True)
    none = torch.zeros(0, 16, 16)
    stability, boxes = judge(none, enlarging, threshold=0.0, offset=1.0)
    assert (stability.shape, boxes.shape) == ((0,), (0, 4))
    assert paint_logits(none, enlarging, threshold=0.0).shape == (0, 30, 20)
    assert boxes_of(torch.zeros(2, 3, 4, dtype=torch.bool)).tolist() == [[0] * 4] * 2
