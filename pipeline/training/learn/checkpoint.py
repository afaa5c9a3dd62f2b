"""Folders of trained semantic networks, which `--model FOLDER` loads like any other's."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pipeline.models.checkpoints.load import write_checkpoint
from pipeline.models.checkpoints.smp import SIDECAR
from pipeline.models.checkpoints.torchvision_files import save_torchvision
from schemas.categories import Categories

from .nets import TrainableNet

TRAINING = "training.json"
"""How the weights came about, for people; nothing reads it."""


def save_semantic(
    folder: Path,
    model: TrainableNet,
    net: nn.Module,
    *,
    categories: Categories,
    licence: str,
    training: Mapping[str, Any],
) -> None:
    """Writes the folder: the category table first, weights, config.json; each atomically.

    Args:
        folder: Made where it is missing.
        model: What kind of network it is.
        net: Whose weights to store, as float32.
        categories: In the order of the outputs.
        licence: Of the weights.
        training: Goes into `TRAINING`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state: dict[str, Tensor] = dict(net.state_dict())
    if model.family == "torchvision-semantic":
        save_torchvision(
            folder,
            state,
            architecture=model.description,
            categories=categories,
            category_ids=[item.id for item in categories],
            licence=licence,
            shortest_edge=0,
            mean=list(model.mean),
            std=list(model.std),
        )
    else:
        rows = [{**row, "index": i} for i, row in enumerate(categories.to_json())]
        table: dict[str, Any] = {"categories": rows, "licence": licence}
        config = dict(model.description)
        if model.family == "smp":
            table |= {"mode": "multiclass", "mean": list(model.mean), "std": list(model.std)}
        else:
            config |= _names(categories)
            _write(folder / "preprocessor_config.json", _processor(model))
        _write(folder / SIDECAR, table)
        write_checkpoint(folder, state, config)
    _write(folder / TRAINING, training)


def _names(categories: Categories) -> dict[str, Any]:
    names = {str(index): item.name for index, item in enumerate(categories)}
    return {
        "architectures": ["SegformerForSemanticSegmentation"],
        "id2label": names,
        "label2id": {name: int(index) for index, name in names.items()},
    }


def _processor(model: TrainableNet) -> dict[str, Any]:
    return {
        "image_processor_type": "SegformerImageProcessor",
        "do_resize": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(model.mean),
        "image_std": list(model.std),
    }


def _write(path: Path, data: Mapping[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)
