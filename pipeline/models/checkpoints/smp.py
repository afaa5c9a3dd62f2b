"""How pictures go into a network of segmentation-models-pytorch.

In rising order of weight: what the encoder was first trained with; the file that albumentations
writes, which the library's guide tells to save beside the weights; `maskmill.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import lcm
from pathlib import Path
from typing import Any, Literal

from pipeline.models.grids.geometry import Filter, FitRule, Padding, Size
from schemas.suggest import nearest

from .description import Described, beside_weights, map_chosen, map_outputs

# What a checkpoint of segmentation-models-pytorch is and finds. No torch here.
#
# Its own `save_pretrained` writes config.json (the arguments of the network and `_model_class`) and
# model.safetensors. What it does not write may stand in a file of ours beside them,
# `maskmill.json`, every key optional:
#
#     {"mode": "multiclass", "size": [height, width], "divisor": 32, "mean": […], "std": […],
#      "rescale": 0.00392, "bgr": false, "licence": "MIT",
#      "categories": [entries as in a file of model.categories]}

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
        channels: Of the input: 1 = grey, 2 = the first two of a picture's three, 3.
    """

    architecture: str
    arguments: Mapping[str, Any]
    classes: int
    mode: Mode
    settings: Mapping[str, Any]
    channels: int = 3

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
    channels = config.get("in_channels", 3)
    if channels not in (1, 2, 3):
        raise ValueError(
            f"{folder}: in_channels is {channels!r}; pictures are brought in with 1 (grey), 2 or 3 "
            "channels, which images.channels chooses of those that a file has"
        )
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
        channels=channels,
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


# Reads a folder that segmentation-models-pytorch's `save_pretrained` wrote. No torch here.

KEY = "_model_class"
"""What its config.json has and no other's."""


def read_smp_folder(folder: Path, config: Mapping[str, Any], *, categories: str = "") -> Described:
    """What the folder's files say, weights apart.

    The library keeps no names: without a table the categories are "category 1", "category 2", …

    Args:
        folder: The checkpoint.
        config: Its config.json.
        categories: A table that the user chose, "" = that of `maskmill.json`, if there.

    Raises:
        ValueError: A file or the table is bad.
    """
    own = read_smp(folder, config)
    names = [f"category {index + 1}" for index in range(own.classes)]
    if own.adds_background:
        names.append("background")
    chosen = categories or beside_weights(folder / SIDECAR, own.settings.get("categories"))
    outputs = (
        map_chosen(names, chosen) if chosen else map_outputs(names, isthing=[False] * len(names))
    )
    return Described("smp", ("semantic",), outputs, str(own.settings.get("licence", "")))


ALBUMENTATIONS = "albumentations_config_eval.json"

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_DPN = ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3)
_ENCODERS = {
    "dpn": _DPN,
    "inception": _HALF,
    "xception": _HALF,
    "timm-tf_efficientnet_lite": _HALF,
}
"""Beginning of an encoder's name → mean and standard deviation; all others have ImageNet's."""

STRIDE = 32
"""Inputs are padded to multiples of it unless `maskmill.json` says otherwise."""

_LEAST = {"PAN": 128}
"""Its decoder halves the encoder's last map three more times."""

_FILTERS: tuple[tuple[Filter, bool], ...] = (
    ("nearest-exact", False),
    ("bilinear", False),
    ("bicubic", False),
    ("bilinear", True),
    ("lanczos", True),
)
"""By OpenCV's number: filter, antialias. INTER_AREA is next to averaging."""

_NO_GEOMETRY = ("ToTensorV2", "ToTensor", "CenterCrop", "NoOp")
"""Nothing to do: a crop would leave pixels without a label."""


def smp_input_rule(folder: str | Path, config: SmpConfig, *, encoder_weights: Any) -> FitRule:
    """The rule of a checkpoint. Without a wish for a size pictures keep theirs.

    Args:
        folder: The checkpoint.
        config: Of `read_smp`.
        encoder_weights: As in config.json.

    Raises:
        ValueError: A file asks for what is not known here.
    """
    mean, std = _statistics(str(config.arguments.get("encoder_name", "")), encoder_weights)
    least = _LEAST.get(config.architecture, STRIDE)
    rule = FitRule(
        channels=config.channels,
        mean=_first(mean, config.channels),
        std=_first(std, config.channels),
        padding=Padding((least, least), STRIDE),
    )
    path = Path(folder) / ALBUMENTATIONS
    written = json_table(path)
    if written:
        rule = _albumentations(rule, written, where=str(path))
    try:
        return _settings(rule, config.settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{Path(folder) / SIDECAR}: {error}") from error


def _statistics(encoder: str, weights: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if encoder.startswith("tu-"):
        import timm

        found = timm.models.get_pretrained_cfg(encoder.removeprefix("tu-"), allow_unregistered=True)
        return (tuple(found.mean), tuple(found.std)) if found else _IMAGENET
    if weights == "advprop":
        return _HALF
    for start, values in _ENCODERS.items():
        if encoder.startswith(start):
            return values
    return _IMAGENET


def _settings(rule: FitRule, settings: Mapping[str, Any]) -> FitRule:
    changes: dict[str, Any] = {}
    if settings.get("size") is not None:
        height, width = (int(side) for side in settings["size"])
        if min(height, width) < 1:
            raise ValueError(f"size is {settings['size']}")
        changes["size"] = Size("stretch", height, width)
    if "divisor" in settings:
        divisor = int(settings["divisor"])
        if divisor < 1:
            raise ValueError(f"divisor is {divisor}")
        changes["padding"] = replace(rule.padding, divisor=divisor)
    if "mean" in settings:
        changes["mean"] = _values(settings["mean"], rule) if settings["mean"] is not None else None
    if "std" in settings:
        changes["std"] = _values(settings["std"], rule)
    if "rescale" in settings:
        changes["rescale"] = float(settings["rescale"])
    if "bgr" in settings:
        changes["bgr"] = bool(settings["bgr"])
    return replace(rule, **changes)


def _first(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """An encoder's three values for fewer channels: grey is the mean of the three."""
    return (sum(values) / len(values),) if channels == 1 else values[:channels]


def _values(values: Any, rule: FitRule) -> tuple[float, ...]:
    """One number a channel, or one for all."""
    count = rule.channels
    found = (values,) * count if isinstance(values, int | float) else tuple(values)
    if len(found) != count:
        raise ValueError(f"{values} are not {count} numbers")
    return tuple(float(value) for value in found)


def _albumentations(rule: FitRule, data: Mapping[str, Any], *, where: str) -> FitRule:
    """The rule with what a saved albumentations pipeline does; without `Normalize`, raw 0…255."""
    rule = replace(rule, mean=None, rescale=1)
    try:
        for step in _steps(data["transform"]):
            rule = _with_step(rule, step)
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"{where}: {error}; write what is needed of it into {SIDECAR} and remove it"
        ) from error
    return rule


def _steps(transform: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    if "transforms" not in transform:
        return [transform]
    return [step for each in transform["transforms"] for step in _steps(each)]


def _with_step(rule: FitRule, step: Mapping[str, Any]) -> FitRule:
    name = str(step["__class_fullname__"]).rpartition(".")[2]
    if name in _NO_GEOMETRY:
        return rule
    if name == "Normalize" and step.get("normalization", "standard") == "standard":
        most = float(step.get("max_pixel_value") or 1)
        return replace(
            rule, rescale=1 / most, mean=_values(step["mean"], rule), std=_values(step["std"], rule)
        )
    if name == "ToFloat":
        return replace(rule, rescale=1 / float(step.get("max_value") or 255))
    if name == "PadIfNeeded":
        return replace(rule, padding=_padding(rule.padding, step))
    if name in ("Resize", "LongestMaxSize", "SmallestMaxSize"):
        resample, antialias = _FILTERS[step.get("interpolation", 1)]
        return replace(rule, size=_size(name, step), resample=resample, antialias=antialias)
    raise ValueError(f"the step {name} is not known")


def _size(name: str, step: Mapping[str, Any]) -> Size:
    if name == "Resize":
        return Size("stretch", int(step["height"]), int(step["width"]))
    side = int(step["max_size"])
    return Size("within", side, side) if name == "LongestMaxSize" else Size("shortest", side)


def _padding(padding: Padding, step: Mapping[str, Any]) -> Padding:
    """Albumentations pads on all sides unless told otherwise."""
    divisors = [int(step.get(f"pad_{side}_divisor") or 1) for side in ("height", "width")]
    height, width = (
        max(int(step.get(f"min_{side}") or 0), least)
        for side, least in zip(("height", "width"), padding.to_hw, strict=True)
    )
    return replace(
        padding,
        to_hw=(height, width),
        divisor=lcm(padding.divisor, *divisors),
        centred=str(step.get("position") or "center").rpartition(".")[2].lower() == "center",
        raw=True,
    )
