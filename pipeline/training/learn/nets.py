"""Networks that learn categories of pixels: built anew, or taken from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.checkpoints.info import ModelInfo, describe, on_this_node
from pipeline.models.checkpoints.load import read_weights
from pipeline.models.checkpoints.smp import read_smp
from pipeline.models.checkpoints.smp import smp_input_rule as smp_rule
from pipeline.models.checkpoints.torchvision_files import build_torchvision
from pipeline.models.checkpoints.torchvision_files import torchvision_input_rule as torchvision_rule
from pipeline.models.grids.geometry import FitRule
from schemas.categories import Categories
from schemas.config.training import Architecture, SemanticTrainConfig

Three = tuple[float, float, float]

IMAGENET: tuple[Three, Three] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

_SEGFORMERS: dict[str, dict[str, Any]] = {
    "b0": {"hidden_sizes": [32, 64, 160, 256], "depths": [2, 2, 2, 2], "decoder": 256},
    "b1": {"hidden_sizes": [64, 128, 320, 512], "depths": [2, 2, 2, 2], "decoder": 256},
    "b2": {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 4, 6, 3], "decoder": 768},
    "b3": {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 4, 18, 3], "decoder": 768},
    "b4": {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 8, 27, 3], "decoder": 768},
    "b5": {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 6, 40, 3], "decoder": 768},
}
"""Xie et al., "SegFormer", NeurIPS 2021, table 6."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainableNet:
    """A network with what is needed to train it and to store it.

    Attributes:
        net: The module, whose names of weights are those of its library.
        family: Of `FAMILIES`: "smp", "torchvision-semantic" or "semantic".
        description: "smp": the arguments of the class and `_model_class`; "torchvision-semantic":
            `name`; "semantic": transformers' configuration.
        mean: Of each channel of pixels on the scale 0…1.
        std: Likewise.
    """

    net: nn.Module
    family: str
    description: Mapping[str, Any]
    mean: Three = IMAGENET[0]
    std: Three = IMAGENET[1]

    def logits(self) -> Callable[[nn.Module, Tensor], Tensor]:
        """How a module like `net` is asked: normalised BxCxHxW → logits of the same size."""
        return _LOGITS[self.family]

    def normalised(self, pixels: Tensor) -> Tensor:
        """Bx3xHxW uint8 → float32, channels last."""
        mean, std = (
            torch.tensor(values, device=pixels.device).view(3, 1, 1)
            for values in (self.mean, self.std)
        )
        x = (pixels.float() / 255 - mean) / std
        return x.contiguous(memory_format=torch.channels_last)


def new_net(architecture: Architecture, config: SemanticTrainConfig, outputs: int) -> TrainableNet:
    """A network with random weights, on the CPU.

    Args:
        architecture: Which.
        config: Its encoder, depth and widths.
        outputs: Categories.

    Raises:
        ValueError: The encoder is not known.
    """
    encoder = config.encoder_of(architecture)
    if architecture == "unet":
        return build_smp(_unet(encoder, config, outputs))
    if architecture == "segformer":
        return build_semantic(_segformer(encoder, config, outputs))
    name = {"name": f"{architecture}_{encoder}"}
    return build_tv(name, outputs)


def build_smp(description: Mapping[str, Any]) -> TrainableNet:
    """A network of segmentation-models-pytorch from what its config.json says.

    Raises:
        ValueError: An unknown class or encoder.
    """
    import segmentation_models_pytorch as smp

    known = {each.__name__: each for each in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    arguments = {key: value for key, value in description.items() if not key.startswith("_")}
    try:
        net = known[description["_model_class"]](**{**arguments, "encoder_weights": None})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"net: {' '.join(str(error).split())[:300]}") from error
    return TrainableNet(net, "smp", description)


def build_tv(architecture: Mapping[str, Any], outputs: int) -> TrainableNet:
    """A network of torchvision.

    Raises:
        ValueError: An unknown name.
    """
    net = build_torchvision(architecture, outputs=outputs)
    return TrainableNet(net, "torchvision-semantic", architecture)


def build_semantic(config: Any) -> TrainableNet:
    """A network of transformers from its configuration."""
    from transformers import AutoModelForSemanticSegmentation

    net: Any = AutoModelForSemanticSegmentation.from_config(config, trust_remote_code=False)
    return TrainableNet(net, "semantic", config.to_dict())


def _unet(encoder: str, config: SemanticTrainConfig, outputs: int) -> dict[str, Any]:
    widths = config.net.widths or (256, 128, 64, 32, 16)[-config.net.depth :]
    return {
        "_model_class": "Unet",
        "activation": None,
        "classes": outputs,
        "decoder_channels": list(widths),
        "encoder_depth": config.net.depth,
        "encoder_name": encoder,
        "encoder_weights": None,
        "in_channels": 3,
    }


def _segformer(encoder: str, config: SemanticTrainConfig, outputs: int) -> Any:
    from transformers import SegformerConfig

    size = _SEGFORMERS[encoder]
    made: Any = SegformerConfig(
        hidden_sizes=size["hidden_sizes"],
        depths=size["depths"],
        decoder_hidden_size=size["decoder"],
        classifier_dropout_prob=config.net.dropout,
    )
    made.num_labels = outputs
    return made


def _whole(net: nn.Module, x: Tensor) -> Tensor:
    return net(x)


def _torchvision_logits(net: nn.Module, x: Tensor) -> Tensor:
    return net(x)["out"]


def _quarter(net: nn.Module, x: Tensor) -> Tensor:
    logits = net(x).logits
    return functional.interpolate(logits.float(), x.shape[-2:], mode="bilinear")


_LOGITS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "smp": _whole,
    "torchvision-semantic": _torchvision_logits,
    "semantic": _quarter,
}

# Fine-tuning: a network with the weights of a checkpoint, and outputs for other categories.

ARCHITECTURES = {"Unet": "unet", "fcn": "fcn", "deeplabv3": "deeplabv3", "segformer": "segformer"}
"""How the name of a checkpoint's network begins → what `--model` calls it."""


def net_of(model: str, categories: Categories, *, allow_pickle: bool = False) -> TrainableNet:
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
    build = {"smp": _smp, "torchvision-semantic": _torchvision_net, "semantic": _transformers}
    if info.family not in build:
        raise ValueError(
            f"init: {model!r} is of the family {info.family!r}; trained can be "
            f"{', '.join(sorted(build))}"
        )
    made = build[info.family](info, len(categories))
    state = read_weights(Path(info.folder), info.weights, allow_pickle=allow_pickle)
    _transfer(made.net, state, _rows(info, categories), where=model)
    return made


def architecture_of(model: TrainableNet) -> str:
    """What `--model` of jobs.train calls a network; its own name for others."""
    name = str(
        model.description.get("_model_class")
        or model.description.get("name")
        or model.description.get("model_type")
    )
    return next((ours for start, ours in ARCHITECTURES.items() if name.startswith(start)), name)


def _smp(info: ModelInfo, outputs: int) -> TrainableNet:
    config = read_smp(info.folder, info.config)
    rule = smp_rule(info.folder, config, encoder_weights=info.config.get("encoder_weights"))
    description = {**info.config, "classes": outputs, "activation": None, "encoder_weights": None}
    return _with_statistics(build_smp(description), rule, info)


def _torchvision_net(info: ModelInfo, outputs: int) -> TrainableNet:
    made = build_tv(info.config.get("architecture", {}), outputs)
    return _with_statistics(made, torchvision_rule(info.config), info)


def _transformers(info: ModelInfo, outputs: int) -> TrainableNet:
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(
        info.folder, local_files_only=True, trust_remote_code=False
    )
    if config.model_type != "segformer":
        raise ValueError(
            f"init: {info.name!r} is a {config.model_type}; of transformers' networks SegFormer "
            "can be trained"
        )
    config.num_labels = outputs
    return _with_statistics(build_semantic(config), read_fit_rule(preprocessor(info.folder)), info)


def _with_statistics(model: TrainableNet, rule: FitRule, info: ModelInfo) -> TrainableNet:
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
