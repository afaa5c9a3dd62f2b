"""torchvision's networks by name: the very ones that its own builders make."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.models import detection, segmentation

from pipeline.models.checkpoints.torchvision_files import INSTANCE, SEMANTIC, build_torchvision


def shapes(net: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in net.state_dict().items()}


@pytest.mark.parametrize("name", SEMANTIC)
def test_semantic_networks_are_torchvisions_own(name: str):
    with torch.device("meta"):
        ours = build_torchvision({"name": name}, outputs=21)
        theirs = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=21)
    assert shapes(ours) == shapes(theirs)
    assert not ours.training


@pytest.mark.parametrize("name", [name for name in INSTANCE if "resnet50" in name])
def test_instance_networks_are_torchvisions_own(name: str):
    with torch.device("meta"):
        ours = build_torchvision({"name": name}, outputs=91)
        theirs = getattr(detection, name)(weights=None, weights_backbone=None)
    counters = {key for key in shapes(theirs) if key.endswith("num_batches_tracked")}
    body = {key for key in counters if key.startswith("backbone.body")}
    expected = shapes(theirs)
    for key in body if name == "maskrcnn_resnet50_fpn" else ():  # frozen there: counts nothing
        del expected[key]
    assert shapes(ours) == expected


def epsilons(net: Any) -> set[float]:
    return {part.eps for part in net.backbone.body.modules() if hasattr(part, "running_var")}


def test_options_of_instance_networks():
    with torch.device("meta"):
        plain: Any = build_torchvision({"name": "maskrcnn_resnet18_fpn"}, outputs=3)
        own: Any = build_torchvision(
            {
                "name": "maskrcnn_resnet18_fpn",
                "norm_eps": 0.0,
                "proposals": 7,
                "detections": 5,
                "min_score": 0.3,
                "nms_iou": 0.4,
            },
            outputs=3,
        )
    assert epsilons(plain) == {1e-5}
    assert epsilons(own) == {0.0}
    assert own.rpn._post_nms_top_n == {"training": 2000, "testing": 7}
    heads = own.roi_heads
    assert (heads.detections_per_img, heads.score_thresh, heads.nms_thresh) == (5, 0.3, 0.4)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({}, "architecture '' is not known"),
        ({"name": "fcn_resnet5"}, "did you mean 'fcn_resnet50'"),
        ({"name": "fcn_resnet50", "proposals": 3}, "has no key 'proposals'; known: name$"),
        ({"name": "maskrcnn_resnet18_fpn", "boxes": 3}, "known: name, proposals"),
    ],
)
def test_unknown_architectures_are_named(architecture: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        build_torchvision(architecture, outputs=3)
