"""Networks that learn categories of pixels: built anew, or taken from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from schemas.semantic_train_config import Architecture, SemanticTrainConfig

from .torchvision_net import build_torchvision

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
class SemanticNet:
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


def new_net(architecture: Architecture, config: SemanticTrainConfig, outputs: int) -> SemanticNet:
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


def build_smp(description: Mapping[str, Any]) -> SemanticNet:
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
    return SemanticNet(net, "smp", description)


def build_tv(architecture: Mapping[str, Any], outputs: int) -> SemanticNet:
    """A network of torchvision.

    Raises:
        ValueError: An unknown name.
    """
    net = build_torchvision(architecture, outputs=outputs)
    return SemanticNet(net, "torchvision-semantic", architecture)


def build_semantic(config: Any) -> SemanticNet:
    """A network of transformers from its configuration."""
    from transformers import AutoModelForSemanticSegmentation

    net: Any = AutoModelForSemanticSegmentation.from_config(config)
    return SemanticNet(net, "semantic", config.to_dict())


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


def _torchvision(net: nn.Module, x: Tensor) -> Tensor:
    return net(x)["out"]


def _quarter(net: nn.Module, x: Tensor) -> Tensor:
    logits = net(x).logits
    return functional.interpolate(logits.float(), x.shape[-2:], mode="bilinear")


_LOGITS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "smp": _whole,
    "torchvision-semantic": _torchvision,
    "semantic": _quarter,
}
