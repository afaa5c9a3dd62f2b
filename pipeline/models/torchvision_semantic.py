"""The family `torchvision-semantic`: FCN, DeepLabV3 and LR-ASPP of torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.torchvision_files import load_torchvision, torchvision_input_rule
from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.outputs import DenseOutput
from pipeline.models.network.forward import Forward
from pipeline.models.network.segmenter import DenseFamily, TorchSegmenter
from pipeline.models.postprocess.merge import Outputs
from schemas.config.model import ModelConfig
from schemas.records import Task


class TorchvisionSemantic(DenseFamily):
    """Labels pictures with a checkpoint of the family; see `families.Segmenter`.

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
        self._shared = TorchSegmenter(
            info, options, tasks, rule=torchvision_input_rule(info.config)
        )

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
