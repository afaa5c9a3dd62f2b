"""A known rectangle comes back where it is, whatever is done to its picture on the way.

The network is synthetic: a cell of its output says how bright its part of the input is.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from tiny_checkpoints import checkpoint
from torch import Tensor

from pipeline.models.checkpoints.hf_preprocessor import read_fit_rule
from pipeline.models.checkpoints.info import ModelInfo, describe
from pipeline.models.eomt import WindowNet
from pipeline.models.grids.geometry import FitRule, Frame, Padding
from pipeline.models.grids.outputs import DenseOutput
from pipeline.models.network.query_net import QueryNet
from pipeline.models.network.segmenter import TorchSegmenter
from pipeline.models.postprocess.merge import Outputs
from schemas.config.model import ModelConfig
from schemas.records import ImageRecord, Sample, Task

CELL = 4
OPTIONS = ModelConfig(name="x")
SIZES = [(97 + 17 * i % 141, 89 + 29 * i % 173) for i in range(20)]


def brightness(pixels: Tensor) -> Tensor:
    """B×1×h×w, above 0 where a cell's part of the input is brighter than the middle."""
    return 20 * torch.nn.functional.avg_pool2d(pixels.mean(1, keepdim=True), CELL)


class Dense:
    """A semantic network: output 1 is bright, output 0 dark."""

    def look(self, pixels: Tensor, frames: Any) -> Outputs:
        bright = brightness(pixels)
        maps = torch.cat([-bright, bright, torch.full_like(bright, -99).expand(-1, 4, -1, -1)], 1)
        return {"semantic": [DenseOutput(*pair) for pair in zip(maps, frames, strict=True)]}


def queries(pixels: Tensor) -> Any:
    """A universal network: two queries, output 1 where it is bright, output 5 where it is dark."""
    bright = brightness(pixels)
    classes = torch.full((2, 7), -9.0)
    classes[0, 1] = classes[1, 5] = 9
    return SimpleNamespace(
        class_queries_logits=classes.expand(len(pixels), -1, -1),
        masks_queries_logits=torch.cat([bright, -bright], 1),
    )


def rule_of(kind: str, **settings: Any) -> FitRule:
    return replace(
        read_fit_rule({"image_processor_type": f"{kind}ImageProcessor", **settings}),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


EDGES = {"shortest_edge": 128, "longest_edge": 256}
LETTERBOX = replace(
    rule_of("Segformer"),
    size=rule_of("Eomt", size={"longest_edge": 256, "shortest_edge": 256}).size,
    padding=Padding(to_hw=(256, 256), centred=True),
)
CASES: dict[str, tuple[Task, FitRule]] = {
    "stretch": ("semantic", rule_of("Segformer", size={"height": 128, "width": 160})),
    "letterbox": ("semantic", LETTERBOX),
    "shortest edge, padded": (
        "semantic",
        replace(rule_of("OneFormer", size=EDGES), padding=Padding(divisor=32)),
    ),
    "multiples": ("semantic", rule_of("Mask2Former", size=EDGES)),
    "padded around": (
        "semantic",
        rule_of("DPT", size={"height": 130, "width": 141}, do_pad=True, size_divisor=16),
    ),
    "panoptic": ("panoptic", rule_of("Mask2Former", size=EDGES)),
    "panoptic, padded": (
        "panoptic",
        rule_of("Eomt", size={"shortest_edge": 160, "longest_edge": 160}),
    ),
    "instance": ("instance", rule_of("MaskFormer", size=EDGES)),
    "instance, padded": (
        "instance",
        rule_of("Eomt", size={"shortest_edge": 160, "longest_edge": 160}),
    ),
}


def build(task: Task, device: str) -> Any:
    return Dense() if task == "semantic" else QueryNet(queries, device=device, options=OPTIONS)


def found_box(model: TorchSegmenter, hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, int]:
    """(edges of the rectangle: top, bottom, left, right; those found; pixels that differ)."""
    height, width = hw
    truth = np.array([height // 5, height - height // 4, width // 6, width - width // 3])
    picture = np.full((height, width, 3), 20, np.uint8)
    picture[truth[0] : truth[1], truth[2] : truth[3]] = 235
    (found,) = model.segment([Sample(ImageRecord("a", ""), picture, hw)])
    (segment,) = [one for one in found.segments if one.category_id == info().category_ids[1]]
    x, y, w, h = segment.bbox_xywh
    mask = coco_mask.decode({"size": list(hw), "counts": segment.counts})
    return truth, np.array([y, y + h, x, x + w]), int((mask != (picture[..., 0] > 100)).sum())


@cache
def info() -> ModelInfo:
    """A checkpoint of six outputs; its network is not used."""
    return describe(str(checkpoint("mask2former")))


@pytest.mark.parametrize("case", CASES)
def test_a_rectangle_comes_back_to_half_a_cell(case: str):
    task, rule = CASES[case]
    model = TorchSegmenter(info(), OPTIONS, (task,), rule=rule)
    model.start("cpu", lambda device: build(task, device))
    shifts = []
    for hw in SIZES:
        frame: Frame = rule.frame(hw)
        cell = np.repeat([CELL * o / i for o, i in zip(hw, frame.content_hw, strict=True)], 2)
        truth, edges, different = found_box(model, hw)
        assert (np.abs(edges - truth) <= cell / 2 + 0.5).all(), (hw, truth, edges)
        corners = 4 * float(cell[0] * cell[2])
        rim = (np.abs(edges - truth)[:2].sum() * hw[1]) + (np.abs(edges - truth)[2:].sum() * hw[0])
        assert different <= rim + corners
        shifts.append((edges - truth) / cell)
    # errors of half a cell go either way: a wrong half pixel would push all of them one way
    top, bottom, left, right = np.mean(shifts, axis=0)
    assert abs(top + bottom) / 2 < 0.1
    assert abs(left + right) / 2 < 0.1


def test_windows_put_a_rectangle_where_it_is():
    rule = replace(
        read_fit_rule({"image_processor_type": "EomtImageProcessor", "size": 64}, split=True),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    model = TorchSegmenter(info(), OPTIONS, ("semantic",), rule=rule)
    model.start("cpu", lambda device: WindowNet(queries, 64, device=device, options=OPTIONS))
    for hw in SIZES:
        content = rule.frame(hw).content_hw
        cell = np.repeat([CELL * o / i for o, i in zip(hw, content, strict=True)], 2)
        truth, edges, _ = found_box(model, hw)
        assert (np.abs(edges - truth) <= cell / 2 + 1).all(), (hw, truth, edges)
