"""The family `torchvision-semantic`: FCN, DeepLabV3 and LR-ASPP of torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from schemas.model_config import ModelConfig
from schemas.records import Sample, Segmentation, Task

from .forward import Forward
from .frame import Frame
from .info import ModelInfo
from .merging import Outputs
from .outputs import DenseOutput
from .tile_answer import TileAnswer
from .torch_segmenter import TorchSegmenter
from .torchvision_files import input_rule, load_torchvision


class TorchvisionSemantic:
    """Labels pictures with a checkpoint of the family; see `pipeline.models.Segmenter`.

    Args:
        info: The checkpoint.
        options: How it is run.
        tasks: "semantic".

    Raises:
        ValueError: The config says nothing usable of the input.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        self._info = info
        self._options = options
        self._shared = TorchSegmenter(info, options, tasks, rule=input_rule(info.config))

    def load(self, device: str) -> None:
        """Reads the weights.

        Raises:
            ValueError: They do not fit the architecture, or are a pickle that is not allowed.
        """
        self._shared.start(device, self._net)

    def segment(self, batch: Sequence[Sample]) -> list[Segmentation]:
        """See `pipeline.models.Segmenter`."""
        return self._shared.segment(batch)

    def dense(self, batch: Sequence[Sample]) -> list[TileAnswer]:
        """The semantic task's maps of tiles; see `DenseSegmenter`."""
        return self._shared.dense(batch)

    def close(self) -> None:
        """Frees the weights."""
        self._shared.close()

    def _net(self, device: str) -> _Net:
        net: Any = load_torchvision(self._info, allow_pickle=self._options.allow_pickle)
        net.requires_grad_(False).to(device=device, memory_format=torch.channels_last)
        return _Net(net, device, self._options)


class _Net:
    """Stops before the networks' own enlarging: the merge does it, once, to the picture's size."""

    def __init__(self, net: Any, device: str, options: ModelConfig) -> None:
        def logits(pixels: Tensor) -> tuple[Tensor, ...]:
            features = net.backbone(pixels)
            return (net.classifier(features.get("out", features)),)  # LR-ASPP takes two of them

        self._forward = Forward(logits, device=device, options=options)

    def look(self, pixels: Tensor, frames: Sequence[Frame]) -> Outputs:
        (logits,) = self._forward(pixels)
        return {"semantic": [DenseOutput(*each) for each in zip(logits, frames, strict=True)]}
