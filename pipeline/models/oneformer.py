"""The family `oneformer`: one network, told by a token which task it is to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.load import load_pretrained
from pipeline.models.grids.geometry import Frame, Padding
from pipeline.models.network.forward import Forward
from pipeline.models.network.neighbourhood import allow_dinat, mend_dinat
from pipeline.models.network.pixel_decoder import lean_pixels
from pipeline.models.network.query_net import lean_oneformer, masks_of, query_outputs
from pipeline.models.network.segmenter import DenseFamily, TorchSegmenter
from pipeline.models.postprocess.merge import Outputs
from schemas.config.model import ModelConfig
from schemas.records import Task

_PATCH = 4
"""Pixels along a side of a patch, of Swin and of DiNAT."""

_TOKENIZER = ("tokenizer.json", "vocab.json")
_ONLY_FOR_TRAINING = (r"^model\.text_mapper\.", r"^model\.prompt_ctx")


class OneFormerSegmenter(DenseFamily):
    """Labels pictures with a OneFormer; see `families.Segmenter`.

    Args:
        info: The checkpoint.
        options: Of the job.
        tasks: The backbone and the pixel decoder run once for all of them, the transformer
            decoder once for each.

    Raises:
        ValueError: The checkpoint does not say how pictures go in.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        self._info = info
        self._options = options
        self._tasks = tasks
        # The backbone would pad to whole patches itself; the frame has to know of it.
        rule = replace(read_fit_rule(preprocessor(info.folder)), padding=Padding(divisor=_PATCH))
        self._shared = TorchSegmenter(info, options, tasks, rule=rule)

    def _net(self, device: str) -> OneFormerNet:
        from transformers import OneFormerForUniversalSegmentation

        backbone = self._info.config.get("backbone_config") or {}
        if backbone.get("model_type") == "dinat":
            allow_dinat()
        tokens = task_tokens(self._info, self._tasks)
        model: Any = load_pretrained(
            OneFormerForUniversalSegmentation,
            self._info,
            device=device,
            allow_pickle=self._options.allow_pickle,
            harmless=_ONLY_FOR_TRAINING,
            is_training=False,  # builds no text encoder
        )
        if backbone.get("model_type") == "dinat":
            mend_dinat(model)
        return OneFormerNet(model.model, tokens.to(device), self._tasks, self._options)


def task_tokens(info: ModelInfo, tasks: Sequence[Task]) -> Tensor:
    """The sentence that names each task, as token ids padded with zeros.

    The tokenizer's files are in the checkpoint folder; nothing else of the processor is needed.

    Returns:
        T×S float32.

    Raises:
        ValueError: There is no tokenizer.
    """
    from transformers import AutoTokenizer

    if not any((Path(info.folder) / name).is_file() for name in _TOKENIZER):
        # transformers would make an empty one, to which every task is the same
        raise ValueError(
            f"{info.folder} holds no tokenizer (vocab.json and merges.txt, or tokenizer.json), "
            "with which a OneFormer is told its task"
        )
    tokenizer = AutoTokenizer.from_pretrained(
        info.folder, local_files_only=True, trust_remote_code=False
    )
    given = tokenizer(
        [f"the task is {task}" for task in tasks],
        padding="max_length",
        max_length=info.config.get("task_seq_len", 77),
        truncation=True,
        return_tensors="pt",
    )
    return (given["input_ids"] * given["attention_mask"]).to(torch.float32)


class OneFormerNet:
    """Answers each task from features that are computed once.

    Args:
        model: The inner `OneFormerModel`, on the device; it is changed.
        tokens: T×S float32, of `task_tokens`, on the device.
        tasks: T tasks.
        options: Of the job.

    Raises:
        ValueError: The architecture has layers that no checkpoint holds.
    """

    def __init__(
        self, model: Any, tokens: Tensor, tasks: Sequence[Task], options: ModelConfig
    ) -> None:
        if any(list(each.parameters()) for each in model.transformer_module.input_projections):
            # transformers keeps them in a plain list: neither saved nor loaded
            raise ValueError("a OneFormer whose conv_dim is not its hidden_dim cannot be loaded")
        fused = lean_pixels(model.pixel_level_module, model.transformer_module)
        lean_oneformer(model.transformer_module.decoder, fused=fused)
        self._model = model
        self._tasks = tasks
        with torch.inference_mode():
            # One by one: a task's last bits must not depend on which others are asked for.
            embeddings = [model.task_encoder(token) for token in tokens.split(1)]
        self._forward = Forward(self._answers, device=tokens.device, options=options, model=model)
        self._task_embeddings = [each.to(self._forward.dtype) for each in embeddings]

    def look(self, pixels: Tensor, frames: Sequence[Frame]) -> Outputs:
        """Queries of their own for each task."""
        answers = self._forward(pixels)
        return {
            task: query_outputs(answers[2 * number], answers[2 * number + 1], frames)
            for number, task in enumerate(self._tasks)
        }

    def _answers(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Class logits and mask logits of the first task, of the second, …"""
        features = self._model.pixel_level_module(pixels)
        answers: list[Tensor] = []
        for embedding in self._task_embeddings:
            decoded = self._model.transformer_module(
                multi_scale_features=features.decoder_features,
                mask_features=features.decoder_last_feature,
                task_token=embedding.expand(len(pixels), -1),
            )
            masks = masks_of(decoded.prediction_masks, features.decoder_last_feature)
            answers += decoded.prediction_class, masks
        return tuple(answers)
