"""Networks of published sizes with random weights, and what both sides of bench.families share.

A random network finds nothing, and finding nothing is cheap. After the real forward pass both
sides therefore go on with the same recorded answer: soft blobs for queries, smooth random fields
for semantic maps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
import transformers as hf
from torch import Tensor
from torch.nn.functional import interpolate

from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.outputs import DenseOutput, QueryOutput
from pipeline.models.postprocess.merge import Outputs
from schemas.categories import Categories, Category
from schemas.records import Task

FOUND = 24
"""Queries of a picture that are sure of something."""


@dataclass(frozen=True, slots=True)
class Case:
    """One network and the processor that goes with it.

    Attributes:
        model: Of transformers or torchvision, on the CPU.
        processor: Of transformers; None for torchvision.
        task: What is asked of it.
        outputs: Categories that it tells apart.
        things: How many of them, the first ones, are things.
    """

    model: Any
    processor: Any
    task: Task
    outputs: int
    things: int = 0


def _swin(size: str) -> hf.SwinConfig:
    embed, depths, heads, window = {
        "small": (16, [1, 1, 1, 1], [1, 2, 4, 8], 4),
        "tiny": (96, [2, 2, 6, 2], [3, 6, 12, 24], 7),
        "large": (192, [2, 2, 18, 2], [6, 12, 24, 48], 12),
    }[size]
    return hf.SwinConfig(
        embed_dim=embed,
        depths=depths,
        num_heads=heads,
        window_size=window,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def _edges(small: bool) -> dict[str, int]:
    return {"shortest_edge": 96, "longest_edge": 160} if small else _COCO_EDGES


_COCO_EDGES = {"shortest_edge": 800, "longest_edge": 1333}


def oneformer(small: bool) -> Case:
    """OneFormer Swin-L, COCO: 150 queries, 133 categories."""
    config = hf.OneFormerConfig(
        backbone_config=_swin("small" if small else "large"),
        num_queries=30 if small else 150,
        decoder_layers=3 if small else 10,
        encoder_layers=1 if small else 6,
        id2label=dict(enumerate(map(str, range(133)))),
    )
    processor = hf.OneFormerImageProcessor(size=_edges(small))
    return Case(hf.OneFormerForUniversalSegmentation(config), processor, "panoptic", 133, 80)


def _mask2former(swin: str, queries: int, small: bool) -> Case:
    config = hf.Mask2FormerConfig(
        backbone_config=_swin("small" if small else swin),
        num_queries=30 if small else queries,
        decoder_layers=3 if small else 10,
        encoder_layers=1 if small else 6,
        id2label=dict(enumerate(map(str, range(133)))),
    )
    processor = hf.Mask2FormerImageProcessor(size=_edges(small), size_divisor=32)
    return Case(hf.Mask2FormerForUniversalSegmentation(config), processor, "panoptic", 133, 80)


def segformer(small: bool) -> Case:
    """SegFormer-B5, ADE20K at 640 × 640: 150 categories."""
    config = hf.SegformerConfig(
        hidden_sizes=[8, 16, 16, 32] if small else [64, 128, 320, 512],
        depths=[1, 1, 1, 1] if small else [3, 6, 40, 3],
        num_attention_heads=[1, 1, 2, 2] if small else [1, 2, 5, 8],
        decoder_hidden_size=16 if small else 768,
        id2label=dict(enumerate(map(str, range(150)))),
    )
    side = 96 if small else 640
    processor = hf.SegformerImageProcessor(size={"height": side, "width": side})
    return Case(hf.SegformerForSemanticSegmentation(config), processor, "semantic", 150)


def maskrcnn(small: bool) -> Case:
    """Mask R-CNN with ResNet-50 and FPN, COCO: 91 outputs, the first is background."""
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    sides = {"min_size": 96, "max_size": 160} if small else {}
    net = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91, **sides)
    net.eval()
    _calibrate(net, 96 if small else 800)
    return Case(net, None, "instance", 91, 91)


def _calibrate(net: Any, side: int) -> None:
    """A score that about 300 candidates of a picture reach, as trained networks have them."""
    seen: list[Tensor] = []
    hook = net.roi_heads.box_predictor.register_forward_hook(
        lambda _m, _i, out: seen.append(out[0])
    )
    net.roi_heads.score_thresh = 1.0
    with torch.inference_mode():
        net([torch.rand(3, side, side)])
    hook.remove()
    scores = seen[0].softmax(-1)[:, 1:].flatten()
    net.roi_heads.score_thresh = float(scores.kthvalue(len(scores) - 300).values)


CASES: dict[str, Callable[[bool], Case]] = {
    "segformer-b5": segformer,
    "mask2former-swin-tiny": lambda small: _mask2former("tiny", 100, small),
    "mask2former-swin-large": lambda small: _mask2former("large", 200, small),
    "oneformer-swin-large": oneformer,
    "maskrcnn-resnet50": maskrcnn,
}


def info_of(case: Case) -> ModelInfo:
    """A description of a network that lies in no folder."""
    items = tuple(
        Category(index + 1, str(index), index < case.things, f"#{index + 1:06x}")
        for index in range(case.outputs)
    )
    return ModelInfo(
        name="bench",
        family="bench",
        folder="",
        revision="",
        weights_sha256="",
        licence="",
        tasks=(case.task,),
        categories=Categories(items),
        config={},
        category_ids=tuple(range(1, case.outputs + 1)),
    )


@cache
def blobs(queries: int, outputs: int, hw: tuple[int, int], device: str) -> tuple[Tensor, Tensor]:
    """A picture's answer of a universal network: Q×(C+1) and Q×h×w logits."""
    rng = np.random.default_rng(0)
    classes = np.full((queries, outputs + 1), -4.0, np.float32)
    masks = np.full((queries, *hw), -6.0, np.float32)
    classes[:, -1] = 6
    y, x = np.mgrid[: hw[0], : hw[1]] / np.array(hw, np.float32)[:, None, None]
    for query in range(min(FOUND, queries)):
        classes[query, [-1, rng.integers(outputs)]] = -4, 5
        middle_y, middle_x, radius = rng.uniform([0, 0, 0.03], [1, 1, 0.12])
        far = np.hypot(y - middle_y, x - middle_x) / radius
        masks[query] = np.clip(8 * (1 - far), -12, 12)
    return torch.from_numpy(classes).to(device), torch.from_numpy(masks).to(device)


@cache
def field(outputs: int, hw: tuple[int, int], device: str) -> Tensor:
    """A picture's answer of a semantic network: C×h×w logits."""
    coarse = torch.randn(1, outputs, 6, 8, generator=torch.Generator().manual_seed(0))
    return interpolate(3 * coarse, size=hw, mode="bicubic")[0].to(device)


class Recorded:
    """A network of ours whose answer, once computed, is exchanged for the recorded one."""

    def __init__(self, net: Any) -> None:
        self._net = net

    def look(self, pixels: Tensor, frames: Sequence[Frame]) -> Outputs:
        """As of the network, with other values."""
        answer = self._net.look(pixels, frames)
        return {task: [_exchanged(one) for one in outputs] for task, outputs in answer.items()}


def _exchanged(output: Any) -> Any:
    match output:
        case QueryOutput(class_logits=classes, mask_logits=masks):
            hw = (masks.shape[1], masks.shape[2])
            recorded = blobs(len(classes), classes.shape[1] - 1, hw, str(masks.device))
            return replace(output, class_logits=recorded[0], mask_logits=recorded[1])
        case DenseOutput(logits=logits):
            hw = (logits.shape[1], logits.shape[2])
            return replace(output, logits=field(len(logits), hw, str(logits.device)))
    return output
