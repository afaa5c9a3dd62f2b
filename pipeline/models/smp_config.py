"""What a checkpoint of segmentation-models-pytorch is and finds. No torch here.

Its own `save_pretrained` writes config.json (the arguments of the network and `_model_class`) and
model.safetensors. What it does not write may stand in a file of ours beside them, `maskmill.json`,
every key optional:

    {"mode": "multiclass", "size": [height, width], "divisor": 32, "mean": […], "std": […],
     "rescale": 0.00392, "bgr": false, "licence": "MIT",
     "categories": [entries as in a file of model.categories]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from schemas.suggest import nearest

Mode = Literal["binary", "multiclass", "multilabel"]
MODES: tuple[Mode, ...] = ("binary", "multiclass", "multilabel")
SIDECAR = "maskmill.json"
KEYS = ("mode", "size", "divisor", "mean", "std", "rescale", "bgr", "categories", "licence")


@dataclass(frozen=True, slots=True)
class SmpConfig:
    """A checkpoint of the family.

    Attributes:
        architecture: Name of the network's class: "Unet", "FPN", …
        arguments: Of the class, but for weights to fetch and the activation: the merge wants
            logits.
        classes: Outputs of the network.
        mode: "multiclass": one category a pixel. "multilabel": each category yes or no; "binary":
            the same with one category. In both, what is no category is background, which is given
            an output after the network's own.
        settings: Of `maskmill.json`.
    """

    architecture: str
    arguments: Mapping[str, Any]
    classes: int
    mode: Mode
    settings: Mapping[str, Any]

    @property
    def adds_background(self) -> bool:
        """Whether the outputs are `classes` + 1, the last one background."""
        return self.mode != "multiclass"


def read_smp(folder: str | Path, config: Mapping[str, Any]) -> SmpConfig:
    """Reads a checkpoint folder.

    Args:
        folder: The checkpoint.
        config: Its config.json.

    Raises:
        ValueError: Files that are not understood, or a network that takes no RGB.
    """
    settings = json_table(Path(folder) / SIDECAR)
    for key in settings:
        if key not in KEYS:
            raise ValueError(
                f"{Path(folder) / SIDECAR}: unknown key {key!r}{nearest(key, KEYS)}; "
                f"known: {', '.join(KEYS)}"
            )
    if config.get("in_channels", 3) != 3:
        raise ValueError(f"{folder}: in_channels is {config['in_channels']!r}; pictures have 3")
    classes = config.get("classes", 1)
    if not isinstance(classes, int) or classes < 1:
        raise ValueError(f"{folder}: classes is {classes!r}; it must be a whole number ≥ 1")
    mode = settings.get("mode") or _mode(config.get("activation"), classes)
    if mode not in MODES or (mode == "binary") > (classes == 1):
        raise ValueError(
            f"{folder}: mode {mode!r} with {classes} classes; known: {', '.join(MODES)}, "
            "binary with one class"
        )
    return SmpConfig(
        architecture=str(config["_model_class"]),
        arguments={
            key: value
            for key, value in config.items()
            if not key.startswith("_") and key not in ("encoder_weights", "activation")
        },
        classes=classes,
        mode=mode,
        settings=settings,
    )


def json_table(path: Path) -> dict[str, Any]:
    """What a JSON file holds; an empty table where there is no file.

    Raises:
        ValueError: It is no JSON, or no table.
    """
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} is no table")
    return data


def _mode(activation: Any, classes: int) -> Mode:
    """One output can only say yes or no; several with a sigmoid each do so, too."""
    if classes == 1:
        return "binary"
    return "multilabel" if activation in ("sigmoid", "logsigmoid") else "multiclass"
