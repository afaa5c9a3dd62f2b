"""The family `semantic`: every checkpoint of transformers' AutoModelForSemanticSegmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from schemas.model_config import ModelConfig
from schemas.records import Sample, Segmentation, Task

from .forward import Forward
from .frame import Frame
from .info import ModelInfo
from .merging import Outputs
from .outputs import DenseOutput
from .preprocessor import preprocessor, read_fit_rule
from .pretrained import load_pretrained
from .torch_segmenter import TorchSegmenter


class SemanticSegmenter:
    """SegFormer, UperNet, DPT, BEiT, data2vec, MobileViT, MobileNetV2-DeepLab and their like.

    See `pipeline.models.Segmenter`.

    Args:
        info: The checkpoint.
        options: Of the job.
        tasks: "semantic" alone.

    Raises:
        ValueError: The checkpoint does not say how pictures go in.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        self._info = info
        self._options = options
        rule = read_fit_rule(preprocessor(info.folder))
        self._shared = TorchSegmenter(info, options, tasks, rule=rule)

    def load(self, device: str) -> None:
        """Reads the weights.

        Raises:
            ValueError: They do not fit the architecture.
        """
        self._shared.start(device, self._net)

    def segment(self, batch: Sequence[Sample]) -> list[Segmentation]:
        """Labels pictures of any sizes."""
        return self._shared.segment(batch)

    def close(self) -> None:
        """Frees the weights."""
        self._shared.close()

    def _net(self, device: str) -> _Net:
        from transformers import AutoModelForSemanticSegmentation

        model = load_pretrained(AutoModelForSemanticSegmentation, self._info, device=device)
        return _Net(model, device, self._options)


class _Net:
    def __init__(self, model: Any, device: str, options: ModelConfig) -> None:
        self._forward = Forward(lambda x: (model(x).logits,), device=device, options=options)

    def look(self, pixels: Tensor, frames: Sequence[Frame]) -> Outputs:
        """One dense output a picture."""
        (logits,) = self._forward(pixels)
        return {
            "semantic": [DenseOutput(*pair) for pair in zip(logits, frames, strict=True)],
        }
