"""Everything mode against the segment-anything package's own generator, on the same input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numeric_claims import (
    AMPLIFIED,
    ROUNDING,
    Judged,
    assert_same_masks,
    assert_same_share,
    in_order_of,
    logits_of_alternatives,
    nearest,
)
from segment_anything import SamAutomaticMaskGenerator, SamPredictor
from tiny_sam import KINDS, tiny_sam
from tiny_text import picture
from torch import nn

from pipeline.masks import codec
from pipeline.models.grids.geometry import FitRule, Hw, Padding, Size
from pipeline.models.network.fit import Fitter
from pipeline.models.sam_core.everything import Everything
from pipeline.models.sam_core.masks import Enlarging
from pipeline.models.sam_core.net import PackageSam, SamNet, TransformersSam, inference
from schemas.config.prompts import EverythingConfig
from schemas.records import ImageRecord, Sample, Segment

RULE = FitRule(
    size=Size("within", 64, 64),
    rescale=1.0,
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    padding=Padding(to_hw=(64, 64)),
)
LOOSE: dict[str, Any] = {
    "points_per_side": 6,
    "points_per_batch": 16,
    "pred_iou_thresh": 0.0,
    "stability_score_thresh": 0.0,
}


class SameInput(SamPredictor):
    """The package's predictor, whose pictures are resized as ours are; it uses Pillow."""

    def set_image(self, image: np.ndarray, image_format: str = "RGB") -> None:
        height, width = image.shape[:2]
        sample = Sample(ImageRecord("", ""), np.ascontiguousarray(image), (height, width))
        pixels, (frame,) = Fitter(RULE, "cpu").batch([sample])
        self.reset_image()
        self.original_size = height, width
        self.input_size = frame.content_hw
        expected = self.transform.get_preprocess_shape(height, width, 64)
        assert frame.content_hw == expected
        with torch.no_grad():
            self.features = self.model.image_encoder(pixels)
        self.is_image_set = True


def lively(seed: int = 0) -> Any:
    """A tiny random model whose masks differ from point to point, with edges that are sharp."""
    model = tiny_sam("package", seed=seed)
    torch.manual_seed(seed)
    for module in model.modules():
        if "Norm" in type(module).__name__:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=2.5 * module.in_features**-0.5)
            nn.init.normal_(module.bias, std=0.05)
        elif isinstance(module, nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=6 * module.in_channels**-0.5)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.mul_(3)
    model.mask_decoder.iou_prediction_head.layers[-1].weight.data.mul_(0.05)
    return model


def theirs(model: Any, sample: Sample, settings: dict[str, Any]) -> list[dict[str, Any]]:
    generator = SamAutomaticMaskGenerator(model, **settings, output_mode="coco_rle")
    generator.predictor = SameInput(model)
    return [one for one in generator.generate(sample.pixels) if one["area"]]


def ours(net: SamNet, sample: Sample, settings: dict[str, Any], **more: Any) -> list[Segment]:
    config = EverythingConfig(**settings, **more)
    everything = Everything(net, Fitter(RULE, "cpu"), config, two_steps=True)
    with torch.inference_mode():
        return everything.segments(sample, category_id=1)


def compare(found: list[Segment], expected: list[dict[str, Any]]) -> None:
    """Of the same operations in the same order: byte for byte."""
    assert [one.counts.decode() for one in found] == [
        one["segmentation"]["counts"] for one in expected
    ]
    for mine, other in zip(found, expected, strict=True):
        x, y, w, h = other["bbox"]  # theirs ends at the last pixel
        assert (mine.area, mine.bbox_xywh) == (other["area"], (x, y, w + 1, h + 1))
        evidence = mine.evidence
        assert evidence is not None
        assert evidence.predicted_iou == other["predicted_iou"]
        assert evidence.stability_score == other["stability_score"]
        assert [list(evidence.point_xy or ())] == other["point_coords"]
        assert list(evidence.crop_xywh or ()) == other["crop_box"]
        assert mine.score == min(max(evidence.predicted_iou or 0.0, 0.0), 1.0)


def judged(net: SamNet, sample: Sample, mine: Segment, *, rounding: float) -> tuple[Judged, Hw]:
    """The logits behind a mask, of its crop, by the implementation's own decoder."""
    evidence = mine.evidence
    assert evidence is not None
    assert evidence.point_xy is not None
    assert evidence.crop_xywh is not None
    assert evidence.predicted_iou is not None
    left, top, width, height = evidence.crop_xywh
    crop = sample.pixels[top : top + height, left : left + width]
    part = Sample(ImageRecord("", ""), np.ascontiguousarray(crop), (height, width))
    pixels, (frame,) = Fitter(RULE, "cpu").batch([part])
    scale = np.array(frame.content_hw[::-1]) / (width, height)
    point = (np.array(evidence.point_xy) - (left, top)) * scale
    with torch.inference_mode():
        encoded = net.encode(pixels)[0]
        prompt = net.points(torch.as_tensor(point)[None, None], torch.ones(1, 1))
    logits, quality = logits_of_alternatives(net, encoded, prompt, Enlarging(frame, True))
    which = nearest(evidence.predicted_iou, quality[0], rounding=rounding)
    return Judged(logits[0, which], rounding), (top, left)


def compare_but_for_rounding(
    found: list[Segment], expected: list[Segment], net: SamNet, sample: Sample, *, rounding: float,
    regions: bool,
) -> None:  # fmt: skip
    """Of other operations: but for pixels that rounding may turn."""
    hw = sample.original_hw
    keys: list[tuple[object, float]] = []
    for one in expected:
        assert one.evidence is not None
        assert one.evidence.predicted_iou is not None
        evidence = one.evidence
        keys.append(((evidence.point_xy, evidence.crop_xywh), one.evidence.predicted_iou))
    unsure_pixels = 0
    for place, mine in zip(in_order_of(found, keys, rounding=rounding), found, strict=True):
        other = expected[place]
        logits, (top, left) = judged(net, sample, mine, rounding=rounding)
        unsure = np.zeros(hw, bool)
        height, width = logits.logits.shape
        unsure[top : top + height, left : left + width] = logits.unsure()
        mask = codec.decode(mine.counts, *hw)
        assert_same_masks(mask, codec.decode(other.counts, *hw), unsure, regions=regions)
        assert mine.area == mask.sum()
        assert mine.bbox_xywh == codec.bbox_xywh(mine.counts, *hw)
        assert mine.evidence is not None
        assert other.evidence is not None
        stability = mine.evidence.stability_score, other.evidence.stability_score
        assert stability[0] is not None
        assert stability[1] is not None
        assert_same_share(stability[0], stability[1], logits, offset=1.0)
        assert mine.score == min(max(mine.evidence.predicted_iou or 0.0, 0.0), 1.0)
        unsure_pixels += int(unsure.sum())
    assert unsure_pixels < 0.01 * len(found) * hw[0] * hw[1], "nearly everything may differ"


CASES: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {
    "overlap": ((50, 80), {"box_nms_thresh": 1.0}),
    "thresholds": (
        (50, 80),
        {"box_nms_thresh": 1.0, "pred_iou_thresh": 0.05, "stability_score_thresh": 0.3},
    ),
    "nms": ((90, 41), {"pred_iou_thresh": -1}),
    "crops": ((160, 200), {"crop_n_layers": 1, "crop_n_points_downscale_factor": 2}),
    "crops and regions": (
        (150, 181),
        {"crop_n_layers": 1, "min_mask_region_area": 60, "box_nms_thresh": 0.9},
    ),
    "regions": ((64, 64), {"min_mask_region_area": 20, "box_nms_thresh": 0.9}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_reference_keeps_the_package_s_masks(name: str) -> None:
    hw, more = CASES[name]
    settings = {**LOOSE, **more}
    model, sample = lively(1), picture(hw, 3)
    expected = theirs(model, sample, settings)
    net = PackageSam(inference(model, "cpu", torch.float32), reference=True)
    assert len(expected) > 3, "tells nothing"
    compare(ours(net, sample, settings, reference=True), expected)


@pytest.mark.parametrize("name", CASES)
def test_fast_keeps_the_package_s_masks(name: str) -> None:
    hw, more = CASES[name]
    settings = {**LOOSE, **more}
    model, sample = lively(1), picture(hw, 3)
    net = PackageSam(inference(model, "cpu", torch.float32), reference=True)
    slow = ours(net, sample, settings, reference=True)
    assert len(slow) > 3, "tells nothing"
    compare_but_for_rounding(
        ours(PackageSam(inference(model, "cpu", torch.float32)), sample, settings),
        slow,
        net,
        sample,
        rounding=AMPLIFIED,
        regions="min_mask_region_area" in more,
    )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "package"])
def test_fast_finds_what_the_reference_does(kind: str) -> None:
    net = TransformersSam(inference(tiny_sam(kind), "cpu", torch.float32))
    settings = {**LOOSE, "pred_iou_thresh": -1, "box_nms_thresh": 1.0}
    sample = picture((50, 80), 3)
    slow = ours(net, sample, settings, reference=True)
    assert len(slow) > 3, "tells nothing"
    compare_but_for_rounding(
        ours(net, sample, settings), slow, net, sample, rounding=ROUNDING, regions=False
    )
