"""Finds weights that torchvision publishes, in the folder where torch keeps them. No torch here.

They are pickles, so each use needs `--allow-pickle`. torchvision knows where they come from.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from .catalog import CatalogEntry
from .category_tables import category_table

_OUTPUTS = 91
"""COCO's networks: number = category id, with gaps; 0 is background."""


def torchvision_file(entry: CatalogEntry) -> Path:
    """Where torch keeps the weights of an entry: under TORCH_HOME, else the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or os.path.join(cache, "torch")
    return Path(home).expanduser().absolute() / "hub" / "checkpoints" / entry.file


def torchvision_command(entry: CatalogEntry) -> str:
    """The command that fetches the weights."""
    return f'python -c "{_code(entry)}"'


def torchvision_config(entry: CatalogEntry) -> dict[str, Any]:
    """What a folder of our own format would say of the weights in its config.json."""
    table = category_table(entry.categories)
    ids = [item.id for item in table.categories]
    if entry.family == "maskrcnn":
        ids = [number if number in set(ids) else 0 for number in range(_OUTPUTS)]
    architecture: dict[str, Any] = {"name": entry.architecture}
    if entry.architecture == "maskrcnn_resnet50_fpn":
        architecture["norm_eps"] = 0.0  # its weights were made with frozen norms without it
    return {
        "format": "maskmill",
        "family": entry.family,
        "tasks": list(entry.tasks),
        "licence": entry.licence,
        "categories": table.categories.to_json(),
        "category_ids": ids,
        "architecture": architecture,
        "weights": entry.file,
    }


def find_torchvision(entry: CatalogEntry, *, allow_pickle: bool) -> Path:
    """The file of an entry's weights: where it is, else fetched.

    Raises:
        ValueError: Pickles are not allowed, or it is not here and cannot be fetched.
    """
    path = torchvision_file(entry)
    if not allow_pickle:
        raise ValueError(
            f"model {entry.name!r}: torchvision publishes its weights as a pickle, which may run "
            "code of its author's when it is read; --allow-pickle reads weights alone from it"
        )
    if path.is_file():
        return path
    why = "HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        done = subprocess.run(
            [sys.executable, "-c", _code(entry)], capture_output=True, text=True, check=False
        )
        if done.returncode == 0 and path.is_file():
            return path
        why = (done.stderr.strip().splitlines() or ["it is not where it should be"])[-1][:200]
    raise ValueError(
        f"model {entry.name!r} is not on this machine and could not be fetched: {why}. Where there "
        f"is a network: {torchvision_command(entry)} – it must then be {path}; "
        "or give a local folder: --model FOLDER"
    )


def _code(entry: CatalogEntry) -> str:
    enumeration, _, name = entry.weights.partition(".")
    package = "detection" if entry.family == "maskrcnn" else "segmentation"
    return (
        f"from torchvision.models.{package} import {enumeration} as W; "
        f"W.{name}.get_state_dict(check_hash=True, weights_only=True)"
    )
