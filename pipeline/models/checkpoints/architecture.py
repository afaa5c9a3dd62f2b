"""Architecture: what a job says of weights that stand alone. No torch here.

A file of weights as training scripts leave it names no network. `model.architecture` does, and the
answer is the config.json that the file would have in a folder of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.categories import color_at
from schemas.suggest import nearest

from .smp import KEY

SMP = (
    "Unet",
    "UnetPlusPlus",
    "MAnet",
    "Linknet",
    "FPN",
    "PSPNet",
    "DeepLabV3",
    "DeepLabV3Plus",
    "PAN",
    "UPerNet",
    "Segformer",
    "DPT",
)
"""Classes of segmentation-models-pytorch; a test holds them against the library."""

TORCHVISION = (
    "fcn_resnet50",
    "fcn_resnet101",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "deeplabv3_mobilenet_v3_large",
    "lraspp_mobilenet_v3_large",
)
"""Semantic networks of torchvision."""

EXAMPLE = '{name = "Unet", encoder_name = "resnet34", classes = 2}'


def config_of(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json that stands for an architecture.

    Args:
        architecture: `name` of a class of segmentation-models-pytorch with its arguments, or of a
            semantic network of torchvision with `classes`, the number of its outputs; the first
            of these is background.

    Raises:
        ValueError: An unknown name, or an argument is missing.
    """
    given = dict(architecture)
    name = str(given.pop("name", ""))
    by_lower = {known.lower(): known for known in (*SMP, *TORCHVISION)}
    found = by_lower.get(name.lower().replace("-", ""))
    if found is None:
        raise ValueError(
            f"model.architecture: name {name!r} is not known{nearest(name, by_lower.values())}; "
            f"known: {', '.join(by_lower.values())}, as in model.architecture = {EXAMPLE}"
        )
    if found in SMP:
        return {KEY: found, **given}
    classes = given.pop("classes", None)
    if given or type(classes) is not int or classes < 2:
        raise ValueError(
            f"model.architecture: {found} takes classes alone, its outputs, background included"
        )
    return {
        "format": "maskmill",
        "family": "torchvision-semantic",
        "tasks": ["semantic"],
        "licence": "",
        "categories": [
            {
                "id": number,
                "name": f"category {number}",
                "isthing": False,
                "color": color_at(number - 1),
            }
            for number in range(1, classes)
        ],
        "category_ids": list(range(classes)),
        "architecture": {"name": found},
    }
