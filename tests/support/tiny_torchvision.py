"""Tiny random checkpoints of torchvision's families, and networks to hold ours against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pipeline.models.checkpoints.torchvision_files import build_torchvision, save_torchvision
from schemas.categories import Categories, Category

SIZE = {"shortest_edge": 64, "longest_edge": 128}
STUFF = Categories(
    (
        Category(7, "sky", isthing=False, color="#4682b4"),
        Category(3, "cat", isthing=True, color="#102030"),
        Category(1, "dog", isthing=True, color="#405060"),
        Category(4, "grass", isthing=False, color="#708090"),
        Category(9, "background", isthing=False, color="#000000", is_background=True),
    )
)
SEMANTIC_IDS = (9, 3, 4, 1, 7)

THINGS = Categories(
    (
        Category(17, "cat", isthing=True, color="#102030"),
        Category(18, "dog", isthing=True, color="#405060"),
    )
)
INSTANCE_IDS = (0, 17, 18, 0)
"""Background, cat, dog, a number that stands for nothing."""

INSTANCE = {"name": "maskrcnn_resnet18_fpn", "proposals": 60, "detections": 9}


def tiny_semantic(folder: Path, *, name: str = "lraspp_mobilenet_v3_large") -> Path:
    """A semantic checkpoint whose random answers differ from place to place."""
    torch.manual_seed(3)
    net = build_torchvision({"name": name}, outputs=len(SEMANTIC_IDS))
    enliven(net)
    save_torchvision(
        folder,
        net.state_dict(),
        architecture={"name": name},
        categories=STUFF,
        category_ids=SEMANTIC_IDS,
        licence="Apache-2.0",
        **SIZE,
    )
    return folder


def tiny_maskrcnn(folder: Path, **options: Any) -> Path:
    """An instance checkpoint that finds some of each category."""
    torch.manual_seed(4)
    architecture = {**INSTANCE, **options}
    net = build_torchvision(architecture, outputs=len(INSTANCE_IDS))
    sharpen(net)
    save_torchvision(
        folder,
        net.state_dict(),
        architecture=architecture,
        categories=THINGS,
        category_ids=INSTANCE_IDS,
        licence="Apache-2.0",
        **SIZE,
    )
    return folder


def enliven(net: Any) -> None:
    """A random network answers the same everywhere: spreads its logits to mean 0, deviation 3."""
    last = net.classifier
    heads = [last.low_classifier, last.high_classifier] if hasattr(last, "cbr") else [last[-1]]
    with torch.no_grad():
        features = net.backbone(torch.nn.functional.interpolate(torch.randn(4, 3, 8, 12), (64, 96)))
        logits = last(features.get("out", features))
        for head in heads:
            head.weight.mul_(3 / logits.std((0, 2, 3))[:, None, None, None])
            head.bias.zero_()
        heads[0].bias.sub_(last(features.get("out", features)).mean((0, 2, 3)))


def sharpen(net: Any) -> None:
    """Scores, categories, boxes and mask values of all kinds."""
    with torch.no_grad():
        net.rpn.head.bbox_pred.weight.mul_(5)
        for layer, factor in (
            (net.roi_heads.box_predictor.cls_score, 12),
            (net.roi_heads.mask_predictor.mask_fcn_logits, 60),
        ):
            weight = layer.weight  # what comes in is positive: rows of mean 0 tell it apart
            weight.sub_(weight.mean(1, keepdim=True)).mul_(factor)
            layer.bias.zero_()
