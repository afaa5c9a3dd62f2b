"""The family `sam3`: SAM 3 and SAM 3 LiteText, concepts in words, boxes and masks from one network.

Every prompt is embedded once, when the weights are loaded, and a picture is encoded once; what
follows the encoder runs once a prompt, several prompts together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.load import load_pretrained
from pipeline.models.grids.finite import check_finite
from pipeline.models.grids.geometry import Frame, Hw
from pipeline.models.grids.outputs import logit
from pipeline.models.network.forward import autocast
from pipeline.models.network.segmenter import NetworkFamily
from pipeline.models.sam_core.masks import Enlarging, numbered_segments
from pipeline.models.text.detections import Detections, corners_in_picture
from pipeline.models.text.phrases import Choice
from pipeline.models.text.request import TextRequest, Texts, read_asking, read_texts
from pipeline.models.text.segmenter import TextSegmenter
from schemas.config.model import ModelConfig
from schemas.records import Sample, Segment, Task

_TOGETHER = 8
"""Prompts at once; each has 5184 cells of its own in the transformers after the encoder."""


class Sam3(NetworkFamily):
    """Labels pictures with what texts ask for; see `families.Segmenter`.

    Args:
        info: The checkpoint; `info.asking` has the prompts.
        options: Of the job.
        tasks: "instance", or "panoptic" where conflicts leave no overlap.

    Raises:
        ValueError: No prompts, a prompt that is too long, a file is missing.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        self._info = info
        self._options = options
        self._asking = read_asking(info, options)
        # The published checkpoint is one for videos, with a detector for pictures in it.
        detector = replace(info, config=info.config.get("detector_config") or info.config)
        self._texts = read_texts(detector, self._asking, longest=32)
        self._shared = TextSegmenter(
            self._asking,
            options,
            tasks,
            rule=read_fit_rule(preprocessor(info.folder)),
            outliner=_OwnMasks(options),
        )

    def _net(self, device: str) -> ConceptFinder:
        import transformers

        light = self._info.config.get("model_type") == "sam3_lite_text"
        model: Any = load_pretrained(
            transformers.Sam3LiteTextModel if light else transformers.Sam3Model,
            self._info,
            device=device,
            allow_pickle=self._options.allow_pickle,
            harmless=(r"^tracker_",),
        )
        return ConceptFinder(model, self._texts, self._asking, device=device, options=self._options)


class ConceptFinder:
    """The instances of each prompt: box, score and mask.

    A score is the query's probability times that of the concept being there at all.

    Args:
        model: Of transformers, on its device.
        texts: The prompts.
        asking: What is looked for.
        device: Where it runs.
        options: Of the job.
    """

    def __init__(
        self, model: Any, texts: Texts, asking: TextRequest, *, device: str, options: ModelConfig
    ) -> None:
        self._asking = asking
        self._device = device
        self._options = options
        self._model = model
        with torch.inference_mode():
            tokens, self._mask = texts.on(device)
            read = model.get_text_features(
                input_ids=tokens, attention_mask=self._mask, return_dict=True
            )
            self._prompts: Tensor = read.pooler_output

    def find(self, pixels: Tensor, frames: Sequence[Frame]) -> list[Detections]:
        """See `Finder`."""
        with autocast(self._options, self._device):
            seen = self._model.get_vision_features(pixel_values=pixels)
            return [self._picture(seen, index, frame) for index, frame in enumerate(frames)]

    def _picture(self, seen: Any, index: int, frame: Frame) -> Detections:
        parts = [
            self._asked(seen, index, range(first, min(first + _TOGETHER, len(self._prompts))))
            for first in range(0, len(self._prompts), _TOGETHER)
        ]
        rows, masks = (torch.cat(each) for each in zip(*parts, strict=True))
        found = rows.cpu().double().numpy()  # one copy: prompt, score, box
        scores = np.full((len(found), len(self._prompts)), np.nan)
        scores[np.arange(len(found)), found[:, 0].astype(np.int64)] = found[:, 1]
        return Detections(corners_in_picture(found[:, 2:], frame), scores, masks)

    def _asked(self, seen: Any, index: int, prompts: range) -> tuple[Tensor, Tensor]:
        """Answers that are good enough: n×6 and n×h×w."""
        count = len(prompts)
        picture = SimpleNamespace(
            fpn_hidden_states=_repeated(seen.fpn_hidden_states, index, count),
            fpn_position_encoding=_repeated(seen.fpn_position_encoding, index, count),
            hidden_states=None,
            attentions=None,
        )
        some = slice(prompts.start, prompts.stop)
        answer = self._model(
            vision_embeds=picture,
            text_embeds=SimpleNamespace(pooler_output=self._prompts[some]),
            attention_mask=self._mask[some],
        )
        check_finite(answer.pred_logits, answer.presence_logits, answer.pred_boxes)
        scores = answer.pred_logits.float().sigmoid() * answer.presence_logits.float().sigmoid()
        place, query = (scores >= self._asking.least).nonzero().unbind(1)
        found = (
            (place + prompts.start)[:, None].float(),
            scores[place, query][:, None],
            answer.pred_boxes[place, query].float(),
        )
        masks = answer.pred_masks[place, query]
        check_finite(masks)
        return torch.cat(found, 1), masks


class _OwnMasks:
    """The masks that come with the answers; see `Outliner`."""

    def __init__(self, options: ModelConfig) -> None:
        level = options.mask_threshold
        self._threshold = 0.0 if level is None else logit(level)

    def load(self, device: str) -> None:
        """There is nothing to load."""

    def input_hw(self, picture_hw: Hw) -> Hw:
        """There is no further input."""
        return (0, 0)

    def outline(
        self,
        samples: Sequence[Sample],
        frames: Sequence[Frame],
        seen: Sequence[Detections],
        choices: Sequence[Choice],
    ) -> list[list[Segment | None]]:
        """Enlarges the masks of the kept answers to the picture."""
        rows = zip(frames, seen, choices, strict=True)
        return [self._outlines(*row) for row in rows]

    def close(self) -> None:
        """There is nothing to free."""

    def _outlines(self, frame: Frame, seen: Detections, choice: Choice) -> list[Segment | None]:
        enlarging = Enlarging(frame, two_steps=False)
        kept = seen.masks[torch.as_tensor(choice.answers, device=seen.masks.device)]
        found: list[Segment | None] = [None] * len(kept)
        for place, one in numbered_segments(kept, enlarging, threshold=self._threshold):
            found[place] = one
        return found


def _repeated(levels: Sequence[Tensor], index: int, count: int) -> list[Tensor]:
    return [level[index : index + 1].expand(count, -1, -1, -1) for level in levels]
