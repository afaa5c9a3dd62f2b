"""Checkpoints of torchvision's segmentation networks: our own folders, and torchvision's files.

A folder of ours has a config.json like

    {"format": "maskmill", "family": "torchvision-semantic", "tasks": ["semantic"],
     "licence": "BSD-3-Clause", "categories": […], "category_ids": [0, 1, 2, …],
     "architecture": {"name": "fcn_resnet50"},
     "input": {"shortest_edge": 520, "longest_edge": 0, "mean": […], "std": […]}}

and a model.safetensors with torchvision's own names of the weights. `category_ids` says which
category each output of the network is, 0 = none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.models.grids.geometry import FitRule, Padding, Size
from schemas.categories import Categories
from schemas.suggest import nearest

from .info import ModelInfo
from .load import EmptyWeights, fill, read_weights, write_checkpoint

# torchvision's segmentation networks, built from an architecture's name.

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


INPUTS: dict[str, dict[str, Any]] = {
    "torchvision-semantic": {"shortest_edge": 520, "longest_edge": 0},
    "maskrcnn": {"shortest_edge": 800, "longest_edge": 1333},
}
"""Family → what its networks were trained with, for keys that a config leaves out."""

_STATISTICS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def save_torchvision(
    folder: Path,
    state: Mapping[str, torch.Tensor],
    *,
    architecture: Mapping[str, Any],
    categories: Categories,
    category_ids: Sequence[int],
    licence: str = "unknown",
    **how: Any,
) -> None:
    """Writes a folder that `--model FOLDER` loads, from the state of a torchvision network.

    Args:
        folder: Made where it is missing.
        state: Of `network.state_dict()`; an auxiliary classifier is left out.
        architecture: As in `build_torchvision`.
        categories: What the network finds.
        category_ids: Of each of its outputs, background included; 0 = none.
        licence: Of the weights.
        how: Keys of `input`: `shortest_edge` (0 = pictures keep their size), `longest_edge` (0 =
            no limit), `mean`, `std`.

    Raises:
        ValueError: The state does not fit the architecture, or an unknown key.
    """
    family = "maskrcnn" if architecture.get("name") in INSTANCE else "torchvision-semantic"
    config = {
        "format": "maskmill",
        "family": family,
        "tasks": ["instance" if family == "maskrcnn" else "semantic"],
        "licence": licence,
        "categories": categories.to_json(),
        "category_ids": list(category_ids),
        "architecture": dict(architecture),
        "input": {**INPUTS[family], **_STATISTICS, **how},
    }
    torchvision_input_rule(config)
    with EmptyWeights():
        net = build_torchvision(architecture, outputs=len(category_ids))
    fill(net, _without_training(state), where=str(folder))
    write_checkpoint(folder, net.state_dict(), config)


def load_torchvision(info: ModelInfo, *, allow_pickle: bool = False) -> torch.nn.Module:
    """The network of a checkpoint, float32, on the CPU, in eval mode.

    Args:
        info: Of our own folder, or of one with torchvision's own file.
        allow_pickle: Whether that file may be loaded.

    Raises:
        ValueError: The weights are a pickle and may not be loaded, or do not fit.
    """
    state = read_weights(Path(info.folder), info.weights, allow_pickle=allow_pickle)
    with EmptyWeights():
        net = build_torchvision(info.config.get("architecture", {}), outputs=len(info.category_ids))
    fill(net, _without_training(state), where=info.folder)
    return net


def torchvision_input_rule(config: Mapping[str, Any]) -> FitRule:
    """How pictures go in.

    Semantic networks get what torchvision's `SemanticSegmentation` preset gives, R-CNNs what its
    `GeneralizedRCNNTransform` gives: resized as floats, without antialias, padded to 32.

    Raises:
        ValueError: Unknown keys or bad values.
    """
    family = str(config.get("family"))
    given = {**INPUTS[family], **_STATISTICS, **config.get("input", {})}
    known = (*INPUTS[family], *_STATISTICS)
    for key in given:
        if key not in known:
            raise ValueError(
                f"input has an unknown key {key!r}{nearest(key, known)}; known: {', '.join(known)}"
            )
    try:
        short, long = int(given["shortest_edge"]), int(given["longest_edge"])
        mean, std = (tuple(float(value) for value in given[key]) for key in _STATISTICS)
    except (TypeError, ValueError) as error:
        raise ValueError(f"input has a bad value: {error}") from error
    if (
        short < (family == "maskrcnn")
        or long < 0
        or len(mean) != 3
        or len(std) != 3
        or min(std) <= 0
    ):
        raise ValueError(f"input has a bad value: {given}")
    if family == "maskrcnn":
        return FitRule(
            size=Size("floor", short, long or 10 * short),
            antialias=False,
            exact=True,
            mean=mean,
            std=std,
            padding=Padding(divisor=32),
        )
    if not short:  # trained on pictures as they are; whole strides, as with every network here
        return FitRule(mean=mean, std=std, padding=Padding(divisor=32))
    return FitRule(size=Size("shortest", short, long), mean=mean, std=std)


def _without_training(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if ".aux_classifier." not in f".{name}"}
