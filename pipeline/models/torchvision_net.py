"""torchvision's segmentation networks, built from an architecture's name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from schemas.suggest import nearest

SEMANTIC = (
    "fcn_resnet50",
    "fcn_resnet101",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "deeplabv3_mobilenet_v3_large",
    "lraspp_mobilenet_v3_large",
)
INSTANCE = (
    "maskrcnn_resnet18_fpn",
    "maskrcnn_resnet34_fpn",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
    "maskrcnn_resnet101_fpn",
)
DETECTION_OPTIONS = {
    "proposals": "rpn_post_nms_top_n_test",
    "detections": "box_detections_per_img",
    "min_score": "box_score_thresh",
    "nms_iou": "box_nms_thresh",
}
"""Key of an instance architecture → argument of torchvision's `MaskRCNN`, whose defaults hold."""


def build_torchvision(architecture: Mapping[str, Any], *, outputs: int) -> torch.nn.Module:
    """A network with random weights, on the CPU, in eval mode.

    Args:
        architecture: `name`, one of `SEMANTIC` or `INSTANCE`. Of instance networks also the keys
            of `DETECTION_OPTIONS`, and `norm_eps`, what batch normalisation adds to the backbone's
            variances: 1e-5, but 0 for torchvision's own `maskrcnn_resnet50_fpn` weights.
        outputs: Categories the network tells apart, background included.

    Raises:
        ValueError: Unknown name, key or value.
    """
    options = dict(architecture)
    name = str(options.pop("name", ""))
    if name not in (*SEMANTIC, *INSTANCE):
        known = (*SEMANTIC, *INSTANCE)
        raise ValueError(
            f"architecture {name!r} is not known{nearest(name, known)}; known: {', '.join(known)}"
        )
    allowed = (*DETECTION_OPTIONS, "norm_eps") if name in INSTANCE else ()
    for key in options:
        if key not in allowed:
            raise ValueError(
                f"architecture {name!r} has no key {key!r}; known: {', '.join(('name', *allowed))}"
            )
    try:
        net = _instance(name, options, outputs) if name in INSTANCE else _semantic(name, outputs)
    except TypeError as error:
        raise ValueError(f"architecture {name!r}: {error}") from error
    return net.eval()


def _semantic(name: str, outputs: int) -> torch.nn.Module:
    """Without the auxiliary classifier, which only training uses."""
    from torchvision.models import segmentation

    build = getattr(segmentation, name)
    return build(weights=None, weights_backbone=None, num_classes=outputs)


def _instance(name: str, options: dict[str, Any], outputs: int) -> torch.nn.Module:
    from torchvision.models import detection
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    eps = float(options.pop("norm_eps", 1e-5))
    given = {DETECTION_OPTIONS[key]: value for key, value in options.items()}
    if name.endswith("_v2"):
        net = detection.maskrcnn_resnet50_fpn_v2(
            weights=None, weights_backbone=None, num_classes=outputs, **given
        )
    else:
        (depth,) = re.findall(r"resnet\d+", name)
        backbone = resnet_fpn_backbone(backbone_name=depth, weights=None)
        net = detection.MaskRCNN(backbone, num_classes=outputs, **given)
    body: Any = net.backbone.body
    for module in body.modules():
        if hasattr(module, "running_var"):
            module.eps = eps
    return net
