"""The family `mask2former`: Mask2Former and MaskFormer of transformers."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.load import load_pretrained
from pipeline.models.network.pixel_decoder import lean_pixels
from pipeline.models.network.query_net import QueryNet, lean_mask2former, masks_of
from pipeline.models.network.segmenter import DenseFamily, TorchSegmenter
from schemas.config.model import ModelConfig
from schemas.records import Task


class Mask2FormerSegmenter(DenseFamily):
    """Labels pictures with a Mask2Former or a MaskFormer; see `families.Segmenter`.

    Args:
        info: The checkpoint.
        options: Of the job.
        tasks: All of them are answered from one forward pass.

    Raises:
        ValueError: The checkpoint does not say how pictures go in.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        self._info = info
        self._options = options
        rule = read_fit_rule(preprocessor(info.folder))
        self._shared = TorchSegmenter(info, options, tasks, rule=rule)

    def _net(self, device: str) -> QueryNet:
        import transformers

        older = self._info.config.get("model_type") == "maskformer"
        model_class = (
            transformers.MaskFormerForInstanceSegmentation
            if older
            else transformers.Mask2FormerForUniversalSegmentation
        )
        model: Any = load_pretrained(
            model_class, self._info, device=device, allow_pickle=self._options.allow_pickle
        )
        if older:
            return QueryNet(model, device=device, options=self._options)
        return mask2former_net(model, device=device, options=self._options)


def mask2former_net(model: Any, *, device: str, options: ModelConfig) -> QueryNet:
    """A Mask2Former that computes nothing twice.

    Args:
        model: `Mask2FormerForUniversalSegmentation`, on the device; it is changed.
        device: Where it is.
        options: Of the job.
    """
    fused = lean_pixels(model.model.pixel_level_module, model.model.transformer_module)
    lean_mask2former(model.model.transformer_module.decoder, fused=fused)

    def queries(answer: Any) -> tuple[Tensor, Tensor]:
        features = answer.pixel_decoder_last_hidden_state
        return answer.class_queries_logits, masks_of(answer.masks_queries_logits, features)

    return QueryNet(model, device=device, options=options, queries=queries)
