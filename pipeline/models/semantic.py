"""The family `semantic`: every checkpoint of transformers' AutoModelForSemanticSegmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.load import load_pretrained
from pipeline.models.grids.geometry import Frame, Padding
from pipeline.models.grids.outputs import DenseOutput
from pipeline.models.network.forward import Forward
from pipeline.models.network.segformer_head import lean_segformer
from pipeline.models.network.segmenter import DenseFamily, TorchSegmenter
from pipeline.models.postprocess.merge import Outputs
from schemas.config.model import ModelConfig
from schemas.records import Task

_STRIDE = 32
"""Pixels of the input a cell of the coarsest features, at most."""

_UNUSED = (r"^neck\.fusion_stage\.layers\.0\.residual_layer1\.",)
"""DPT's deepest fusion layer gets no residual: the original code has no such weights (transformers
pull request 15991), and converted checkpoints lack them."""

_ONE_SIZE = {"data2vec-vision"}
"""Networks that take the size they were trained with, and no other."""


class SemanticSegmenter(DenseFamily):
    """SegFormer, UperNet, DPT, BEiT, data2vec, MobileViT, MobileNetV2-DeepLab and their like.

    See `pipeline.models.checkpoints.families.Segmenter`.

    Args:
        info: The checkpoint.
        options: Of the job.
        tasks: "semantic" alone.

    Raises:
        ValueError: The checkpoint does not say how pictures go in, or not in every size wanted.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        self._info = info
        self._options = options
        if options.tta.scales != (1.0,) and info.config.get("model_type") in _ONE_SIZE:
            raise ValueError("model.tta.scales: this network takes inputs of one size alone")
        rule = read_fit_rule(preprocessor(info.folder))
        if rule.size.kind in ("shortest", "keep"):
            # Other sides than those of training: without whole strides a cell would be narrower.
            rule = replace(rule, padding=Padding(divisor=_STRIDE))
        self._shared = TorchSegmenter(info, options, tasks, rule=rule)

    def _net(self, device: str) -> SemanticNet:
        from transformers import AutoModelForSemanticSegmentation

        model: Any = load_pretrained(
            AutoModelForSemanticSegmentation,
            self._info,
            device=device,
            allow_pickle=self._options.allow_pickle,
            harmless=_UNUSED if self._info.config.get("model_type") == "dpt" else (),
        )
        if hasattr(model, "auxiliary_head"):
            model.auxiliary_head = None  # of use in training only, and computed all the same
        return SemanticNet(model, device, self._options)


class SemanticNet:
    """One map a category.

    Args:
        model: Of transformers, on the device.
        device: Where it is.
        options: Of the job.
    """

    def __init__(self, model: Any, device: str, options: ModelConfig) -> None:
        lean_segformer(model)
        self._forward = Forward(
            lambda x: (model(x).logits,), device=device, options=options, model=model
        )

    def look(self, pixels: Tensor, frames: Sequence[Frame]) -> Outputs:
        """One dense output a picture."""
        (logits,) = self._forward(pixels)
        return {
            "semantic": [DenseOutput(*pair) for pair in zip(logits, frames, strict=True)],
        }
