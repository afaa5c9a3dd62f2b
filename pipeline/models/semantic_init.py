"""Fine-tuning: a network with the weights of a checkpoint, and outputs for other categories."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from schemas.categories import Categories

from .fit_rule import FitRule
from .info import ModelInfo, describe, on_this_node
from .preprocessor import preprocessor, read_fit_rule
from .semantic_nets import IMAGENET, SemanticNet, Three, build_semantic, build_smp, build_tv
from .smp_config import read_smp
from .smp_input import input_rule as smp_rule
from .torchvision_files import input_rule as torchvision_rule
from .weights_file import read_weights

ARCHITECTURES = {"Unet": "unet", "fcn": "fcn", "deeplabv3": "deeplabv3", "segformer": "segformer"}
"""How the name of a checkpoint's network begins → what `--model` calls it."""


def net_of(model: str, categories: Categories, *, allow_pickle: bool = False) -> SemanticNet:
    """The network of a checkpoint with an output for each of the categories.

    Outputs of categories that the checkpoint finds, by name, keep what they learned; the others
    are drawn at random.

    Args:
        model: As `--model` of jobs.label: short name, hub id or folder.
        categories: In the order of the outputs that are wanted.
        allow_pickle: Whether weights may be a pickle.

    Raises:
        ValueError: No such checkpoint, or none that can be trained here.
    """
    info = on_this_node(describe(model, allow_pickle=allow_pickle), allow_pickle=allow_pickle)
    build = {"smp": _smp, "torchvision-semantic": _torchvision, "semantic": _transformers}
    if info.family not in build:
        raise ValueError(
            f"init: {model!r} is of the family {info.family!r}; trained can be "
            f"{', '.join(sorted(build))}"
        )
    made = build[info.family](info, len(categories))
    state = read_weights(Path(info.folder), info.weights, allow_pickle=allow_pickle)
    _transfer(made.net, state, _rows(info, categories), where=model)
    return made


def architecture_of(model: SemanticNet) -> str:
    """What `--model` of jobs.train calls a network; its own name for others."""
    name = str(
        model.description.get("_model_class")
        or model.description.get("name")
        or model.description.get("model_type")
    )
    return next((ours for start, ours in ARCHITECTURES.items() if name.startswith(start)), name)


def _smp(info: ModelInfo, outputs: int) -> SemanticNet:
    config = read_smp(info.folder, info.config)
    rule = smp_rule(info.folder, config, encoder_weights=info.config.get("encoder_weights"))
    description = {**info.config, "classes": outputs, "activation": None, "encoder_weights": None}
    return _with_statistics(build_smp(description), rule, info)


def _torchvision(info: ModelInfo, outputs: int) -> SemanticNet:
    made = build_tv(info.config.get("architecture", {}), outputs)
    return _with_statistics(made, torchvision_rule(info.config), info)


def _transformers(info: ModelInfo, outputs: int) -> SemanticNet:
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(info.folder, local_files_only=True)
    if config.model_type != "segformer":
        raise ValueError(
            f"init: {info.name!r} is a {config.model_type}; of transformers' networks SegFormer "
            "can be trained"
        )
    config.num_labels = outputs
    return _with_statistics(build_semantic(config), read_fit_rule(preprocessor(info.folder)), info)


def _with_statistics(model: SemanticNet, rule: FitRule, info: ModelInfo) -> SemanticNet:
    if rule.bgr:
        raise ValueError(f"init: {info.name!r} wants blue first, which is not supported")
    if rule.mean is None:
        mean: Three = (0.0, 0.0, 0.0)
        factor = 1 / (255 * rule.rescale)
        return replace(model, mean=mean, std=(factor, factor, factor))
    scale = 255 * rule.rescale
    mean, std = (_three(values, scale) for values in (rule.mean, rule.std))
    close = all(
        abs(a - b) < 1e-6 for a, b in zip(mean + std, IMAGENET[0] + IMAGENET[1], strict=True)
    )
    return model if close else replace(model, mean=mean, std=std)


def _three(values: tuple[float, ...], scale: float) -> Three:
    first, second, third = (value / scale for value in values)
    return first, second, third


def _rows(info: ModelInfo, categories: Categories) -> list[int | None]:
    """Of each wanted output, which of the checkpoint's it continues."""
    known = info.categories.by_id()
    held = {known[id_].name.lower(): i for i, id_ in enumerate(info.category_ids) if id_ in known}
    return [held.get(item.name.lower()) for item in categories]


def _transfer(
    net: nn.Module, state: dict[str, Tensor], rows: list[int | None], *, where: str
) -> None:
    """Fills a network; tensors that differ in their first side alone are the outputs'."""
    own = net.state_dict()
    filled: dict[str, Tensor] = {}
    strange = [name for name in own if name not in state and not name.endswith("batches_tracked")]
    for name, mine in own.items():
        theirs = state.get(name)
        if theirs is None:
            filled[name] = mine
        elif theirs.shape == mine.shape and not _is_output(name, mine, rows):
            filled[name] = theirs
        elif theirs.shape[1:] == mine.shape[1:] and mine.shape[:1] == torch.Size([len(rows)]):
            filled[name] = mine.clone()
            for row, source in enumerate(rows):
                if source is not None:
                    filled[name][row] = theirs[source]
        else:
            strange.append(name)
    if strange:
        raise ValueError(f"init: {where!r}: weights do not fit: {', '.join(sorted(strange)[:3])}")
    net.load_state_dict({name: value.to(own[name].dtype) for name, value in filled.items()})


def _is_output(name: str, value: Tensor, rows: list[int | None]) -> bool:
    """Whether a tensor of equal shape may be the outputs', in another order."""
    last = name.startswith(("segmentation_head.", "classifier.4.", "decode_head.classifier."))
    return last and value.shape[:1] == torch.Size([len(rows)])
