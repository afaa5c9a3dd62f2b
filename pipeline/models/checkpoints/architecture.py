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

EFFICIENT_SAM = ("efficient_sam_vitt", "efficient_sam_vits")
"""EfficientSAM's two sizes, by their authors' names."""

SAM = ("vit_b", "vit_l", "vit_h", "vit_t", *EFFICIENT_SAM)
"""SAM as the segment-anything package has it; vit_t is MobileSAM."""

PUBLISHED = {
    "sam_vit_b_01ec64.pth": "vit_b",
    "sam_vit_l_0b3195.pth": "vit_l",
    "sam_vit_h_4b8939.pth": "vit_h",
    "mobile_sam.pt": "vit_t",
    "efficient_sam_vitt.pt": "efficient_sam_vitt",
    "efficient_sam_vits.pt": "efficient_sam_vits",
}
"""Name of a file of weights as its authors publish it, under Apache-2.0 → its SAM."""

EXAMPLE = '{name = "Unet", encoder_name = "resnet34", classes = 2}'


def config_of(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json that stands for an architecture.

    Args:
        architecture: `name` of a class of segmentation-models-pytorch with its arguments, of a
            semantic network of torchvision with `classes`, the number of its outputs, the first
            of which is background, or one of `SAM`.

    Raises:
        ValueError: An unknown name, or an argument is missing.
    """
    given = dict(architecture)
    name = str(given.pop("name", ""))
    by_lower = {known.lower(): known for known in (*SMP, *TORCHVISION, *SAM)}
    found = by_lower.get(name.lower().replace("-", ""))
    if found is None:
        raise ValueError(
            f"model.architecture: name {name!r} is not known{nearest(name, by_lower.values())}; "
            f"known: {', '.join(by_lower.values())}, as in model.architecture = {EXAMPLE}"
        )
    if found in SMP:
        return {KEY: found, **given}
    if found in SAM:
        if given:
            raise ValueError(f"model.architecture: {found} takes no {', '.join(given)}")
        return _sam(found)
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


def published(file: str) -> dict[str, Any]:
    """The config.json that stands for one of `PUBLISHED`."""
    return {**_sam(PUBLISHED[file]), "licence": "Apache-2.0", "weights": file}


def _sam(name: str) -> dict[str, Any]:
    return {"format": "maskmill", "family": "sam", "architecture": {"name": name}}
