"""Test-time augmentation through the path that every family on PyTorch takes."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from tiny_checkpoints import checkpoint
from torch import Tensor

from pipeline.models.checkpoints.info import ModelInfo, describe
from pipeline.models.grids.geometry import FitRule, Padding, Size
from pipeline.models.grids.outputs import BoxOutput, DenseOutput
from pipeline.models.network.fit import View
from pipeline.models.network.query_net import QueryNet
from pipeline.models.network.segmenter import TorchSegmenter
from pipeline.models.network.tta import views_of
from pipeline.models.postprocess.merge import Outputs
from schemas.config.model import ModelConfig, TtaConfig
from schemas.records import ImageRecord, Sample, Segment, Segmentation, Task

CELL = 4
PADDED = FitRule(
    size=Size("shortest", 128, 256),
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    padding=Padding(divisor=64),
)
BOTH = TtaConfig(flips=("horizontal", "vertical"))
SCALES = TtaConfig(scales=(0.75, 1.0, 1.25))
ALL = TtaConfig(flips=("horizontal", "vertical"), scales=(1.25, 1.0, 0.75))


def brightness(pixels: Tensor) -> Tensor:
    """B×1×h×w, above 0 where a cell's part of the input is brighter than the middle."""
    return 20 * torch.nn.functional.avg_pool2d(pixels.mean(1, keepdim=True), CELL)


class Dense:
    """A semantic network: output 1 is bright, output 0 dark; `bias` grows from left to right."""

    def __init__(self, bias: float = 0.0) -> None:
        self.bias = bias

    def look(self, pixels: Tensor, frames: Any) -> Outputs:
        bright = brightness(pixels)
        bright = bright + self.bias * torch.linspace(-1, 1, bright.shape[-1])
        maps = torch.cat([-bright, bright, torch.full_like(bright, -99).expand(-1, 4, -1, -1)], 1)
        return {"semantic": [DenseOutput(*pair) for pair in zip(maps, frames, strict=True)]}


def queries(pixels: Tensor) -> Any:
    """A universal network: one query is bright, one dark; which comes first depends on the left."""
    bright = brightness(pixels)
    classes = torch.full((len(pixels), 2, 7), -9.0)
    masks = torch.cat([bright, -bright], 1)
    classes[:, 0, 1] = classes[:, 1, 5] = 9
    if bright[0, 0, :, 0].mean() > bright[0, 0, :, bright.shape[-1] // 3].mean():
        return SimpleNamespace(
            class_queries_logits=classes.flip(1), masks_queries_logits=masks.flip(1)
        )
    return SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)


class Boxes:
    """A detector: the box around what is bright."""

    def __init__(self, upright: float = 0.9, mirrored: float = 0.9) -> None:
        self.upright, self.mirrored = upright, mirrored

    def look(self, pixels: Tensor, frames: Any) -> Outputs:
        found = []
        for picture, frame in zip(pixels, frames, strict=True):
            bright = picture.mean(0) > 0
            ys, xs = bright.any(1).nonzero()[:, 0], bright.any(0).nonzero()[:, 0]
            box = torch.stack([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1]).float()
            score = self.upright if xs[0] < pixels.shape[-1] / 4 else self.mirrored
            scores, mask = torch.tensor([score]), torch.ones(1, 8, 8)
            found.append(BoxOutput(box[None], torch.tensor([1]), scores, mask, frame))
        return {"instance": found}


def build(task: Task) -> Any:
    nets = {"semantic": Dense, "instance": Boxes}
    if task == "panoptic":
        return QueryNet(queries, device="cpu", options=ModelConfig(name="x"))
    return nets[task]()


@cache
def info() -> ModelInfo:
    """A checkpoint of six outputs; its network is not used."""
    return describe(str(checkpoint("mask2former")))


def model(task: Task, tta: TtaConfig, net: Any = None, rule: FitRule = PADDED) -> TorchSegmenter:
    options = ModelConfig(name="x", tta=tta)
    segmenter = TorchSegmenter(info(), options, (task,), rule=rule)
    segmenter.start("cpu", lambda device: net or build(task))
    return segmenter


def scene(hw: tuple[int, int]) -> tuple[Sample, np.ndarray]:
    """A bright rectangle that does not lie in the middle, and its mask."""
    height, width = hw
    truth = np.zeros(hw, bool)
    truth[height // 5 : height - height // 4, width // 6 : width - width // 3] = True
    pixels = np.where(truth[..., None], 235, 20).astype(np.uint8).repeat(3, axis=2)
    return Sample(ImageRecord("a", ""), pixels, hw), truth


def bright(found: Segmentation) -> Segment:
    (segment,) = [one for one in found.segments if one.category_id == info().category_ids[1]]
    return segment


def mask_of(segment: Segment, hw: tuple[int, int]) -> np.ndarray:
    return coco_mask.decode({"size": list(hw), "counts": segment.counts}).astype(bool)


def test_the_views_that_a_configuration_asks_for():
    assert views_of(TtaConfig()) == (View(),)
    assert views_of(TtaConfig(flips=("horizontal",))) == (View(), View(1.0, (False, True)))
    assert views_of(BOTH) == tuple(
        View(1.0, flip) for flip in [(False, False), (False, True), (True, False), (True, True)]
    )
    assert views_of(SCALES) == (View(), View(0.75), View(1.25))
    assert views_of(ALL)[0] == View()
    assert len(views_of(ALL)) == 12
    assert views_of(TtaConfig(scales=(1.5, 2.0, 1.5))) == (View(1.5), View(2.0))


@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
def test_one_plain_view_is_as_if_there_were_none(task: Task):
    sample, _ = scene((97, 131))
    (plain,) = model(task, TtaConfig()).segment([sample])
    (same,) = model(task, TtaConfig(scales=(1.0, 1.0))).segment([sample])
    assert same == plain
    assert all(segment.tta_agreement is None for segment in plain.segments)


@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
def test_mirrored_views_of_a_network_without_a_side_agree(task: Task):
    """128 × 256 fits into cells and padding on either side: all views see the same."""
    hw = (128, 192)
    sample, _ = scene(hw)
    (plain,) = model(task, TtaConfig()).segment([sample])
    (found,) = model(task, BOTH).segment([sample])
    assert len(found.segments) == len(plain.segments) > 0
    for one, other in zip(plain.segments, found.segments, strict=True):
        assert (other.category_id, other.counts) == (one.category_id, one.counts)
        assert other.score == pytest.approx(one.score, abs=1e-4)
        assert other.tta_agreement == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
@pytest.mark.parametrize("tta", [BOTH, SCALES, ALL], ids=["flips", "scales", "all"])
def test_views_lie_on_one_another_at_odd_sizes(task: Task, tta: TtaConfig):
    for hw in [(97, 131), (131, 89), (255, 100), (77, 200), (61, 61)]:
        sample, truth = scene(hw)
        (found,) = model(task, tta).segment([sample])
        segment = bright(found)
        frame = PADDED.frame(hw)
        cell = CELL * hw[0] / frame.content_hw[0]
        x, y, w, h = segment.bbox_xywh
        ys, xs = np.nonzero(truth)
        edges = np.array([y, y + h, x, x + w]) - [ys[0], ys[-1] + 1, xs[0], xs[-1] + 1]
        assert np.abs(edges).max() <= cell, (hw, edges)
        assert abs(edges[:2].sum()) <= cell  # not moved
        assert abs(edges[2:].sum()) <= cell
        mask = mask_of(segment, hw)
        assert (mask & truth).sum() / (mask | truth).sum() > 0.9
        assert segment.tta_agreement is not None
        assert segment.tta_agreement > 0.85  # cells of a mirrored view begin at the other rim


def test_a_bias_to_one_side_is_taken_out():
    """The network takes the right rim for bright and loses some of the left."""
    hw = (128, 192)
    sample, _ = scene(hw)
    (plain,) = model("semantic", TtaConfig()).segment([sample])
    expected = mask_of(bright(plain), hw)

    def seen(*flips: str) -> Segmentation:
        tta = TtaConfig.model_validate({"flips": flips})
        return model("semantic", tta, Dense(bias=25.0)).segment([sample])[0]

    assert (mask_of(bright(seen()), hw) != expected).sum() > 1000
    assert (mask_of(bright(seen("vertical")), hw) != expected).sum() > 1000
    found = seen("horizontal")
    assert (mask_of(bright(found), hw) == expected).all()
    dark = [one for one in found.segments if one != bright(found)]
    assert [one.tta_agreement is not None and one.tta_agreement < 0.9 for one in dark] == [True]


def test_semantic_answers_of_queries_are_merged_cell_by_cell():
    sample, _ = scene((128, 192))
    answers = []
    for tta in (TtaConfig(), BOTH):
        segmenter = TorchSegmenter(
            info(), ModelConfig(name="x", tta=tta), ("semantic", "panoptic"), rule=PADDED
        )
        segmenter.start("cpu", lambda device: build("panoptic"))
        answers.append(segmenter.segment([sample])[0])
    plain, found = answers
    assert len(plain.segments) == len(found.segments) == 4
    for one, other in zip(plain.segments, found.segments, strict=True):
        assert (one.task, one.category_id, one.counts) == (
            other.task,
            other.category_id,
            other.counts,
        )
        assert other.tta_agreement == pytest.approx(1, abs=1e-3)


def test_a_picture_does_not_see_its_neighbours():
    samples = [scene(hw)[0] for hw in [(97, 131), (131, 89), (97, 131), (40, 200)]]
    for task in ("semantic", "panoptic", "instance"):
        segmenter = model(task, ALL)
        assert segmenter.segment(samples) == [segmenter.segment([one])[0] for one in samples]


def test_the_mean_score_of_the_views_has_to_reach_the_threshold():
    sample, _ = scene((128, 192))
    for mirrored, count in ((0.4, 1), (0.2, 0)):
        net = Boxes(upright=0.7, mirrored=mirrored)
        (found,) = model("instance", TtaConfig(flips=("horizontal",)), net).segment([sample])
        assert len(found.segments) == count
        assert [one.score for one in found.segments] == [pytest.approx(0.55)] * count
