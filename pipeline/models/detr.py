"""The family `detr`: DETR with its panoptic mask head, of transformers."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.load import load_pretrained
from pipeline.models.network.query_net import QueryNet
from pipeline.models.network.segmenter import DenseFamily, TorchSegmenter
from schemas.config.model import ModelConfig
from schemas.records import Task


class DetrSegmenter(DenseFamily):
    """Labels pictures with a DETR; see `families.Segmenter`.

    Source: Carion et al., "End-to-End Object Detection with Transformers", 2020, section 4.4.

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
        from transformers import DetrForSegmentation

        model: Any = load_pretrained(
            DetrForSegmentation,
            self._info,
            device=device,
            allow_pickle=self._options.allow_pickle,
        )
        return QueryNet(model, device=device, options=self._options, queries=detr_queries)


def detr_queries(answer: Any) -> tuple[Tensor, Tensor]:
    """B×Q×(C+1) and B×Q×h×w logits of a DETR's answer; the last category is "no object"."""
    return answer.logits, answer.pred_masks
