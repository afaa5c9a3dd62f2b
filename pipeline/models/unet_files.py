"""The checkpoint folder of the family `unet`: config.json and model.safetensors."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from schemas.categories import Categories, Category

from .unet_net import UNet

CATEGORIES = Categories(
    (
        Category(1, "nucleus", isthing=True, color="#ffb000", supercategory="cell"),
        Category(2, "background", isthing=False, color="#20232a", is_background=True),
    )
)
MAPS = ("interior", "touch", "distance")


def save_unet(
    folder: Path,
    net: UNet,
    *,
    widths: tuple[int, ...],
    postprocess: Mapping[str, float],
    training: Mapping[str, Any],
) -> None:
    """Writes a folder that `--model FOLDER` loads; weights before config, each atomically.

    Convolutions are stored as float16, which halves the file; batch normalisation, a thousandth of
    it, stays float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.detach().cpu().to(torch.float16 if value.ndim > 1 else value.dtype).contiguous()
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    config = {
        "format": "maskmill",
        "family": "unet",
        "tasks": ["panoptic", "instance", "semantic"],
        "categories": CATEGORIES.to_json(),
        "licence": "Apache-2.0",
        "architecture": {"widths": list(widths), "maps": list(MAPS)},
        "postprocess": dict(postprocess),
        "training": dict(training),
    }
    partial = folder / "model.safetensors.partial"
    save_file(state, partial, metadata={"format": "pt"})
    partial.chmod(0o644)  # safetensors makes its files private
    os.replace(partial, folder / "model.safetensors")
    partial = folder / "config.json.partial"
    partial.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, folder / "config.json")


def load_unet(folder: Path, config: Mapping[str, Any]) -> UNet:
    """Builds the net that a config describes and fills it, float32, on the CPU, in eval mode.

    Raises:
        ValueError: The config lacks the architecture, or the weights do not fit it.
    """
    try:
        widths = tuple(int(width) for width in config["architecture"]["widths"])
        maps = tuple(config["architecture"]["maps"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'config.json'}: no usable architecture: {error}") from error
    if maps != MAPS:
        raise ValueError(f"{folder / 'config.json'}: maps must be {list(MAPS)}, got {list(maps)}")
    net = UNet(widths=widths, outputs=len(maps))
    state = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
    tracked = {name for name in net.state_dict() if name.endswith("num_batches_tracked")}
    try:
        missing, unexpected = net.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{folder}: weights do not fit: {str(error).splitlines()[-1]}") from error
    wrong = sorted(set(missing) - tracked) + sorted(unexpected)
    if wrong:
        raise ValueError(f"{folder}: weights do not fit the architecture: {', '.join(wrong[:3])}")
    return net.eval()
