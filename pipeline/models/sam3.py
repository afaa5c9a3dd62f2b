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
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.load import load_pretrained
from pipeline.models.grids.finite import finite, refuse_unless
from pipeline.models.grids.geometry import Frame, Hw
from pipeline.models.grids.outputs import logit
from pipeline.models.network.blocks import compile_blocks
from pipeline.models.network.forward import Forward, autocast
from pipeline.models.network.segmenter import NetworkFamily
from pipeline.models.sam_core.masks import Enlarging, numbered_segments
from pipeline.models.text.detections import Detections, corners_in_picture
from pipeline.models.text.phrases import Choice
from pipeline.models.text.request import TextRequest, Texts, read_asking, read_texts
from pipeline.models.text.segmenter import TextSegmenter
from schemas.config.model import ModelConfig
from schemas.records import Sample, Segment, Task

_TOGETHER = 8
"""Pairs of a picture and a prompt at once; each has 5184 cells of its own after the encoder."""


Floats = npt.NDArray[np.float64]


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
        self._positions: dict[torch.Size, Tensor] = {}
        self._uncompiled: list[Any] = []
        if options.compile and torch.device(device).type == "cuda":
            self._uncompiled = [model.detr_encoder, model.detr_decoder, model.mask_decoder]
        self._see = Forward(
            self._levels, device=device, options=options, model=model.vision_encoder
        )

    def find(self, pixels: Tensor, frames: Sequence[Frame]) -> list[Detections]:
        """See `Finder`."""
        levels = self._see(pixels)
        count = len(self._prompts)
        pairs = torch.cartesian_prod(*(torch.arange(n) for n in (len(pixels), count)))
        with autocast(self._options, self._device):
            parts = [self._asked(levels, some) for some in pairs.to(pixels.device).split(_TOGETHER)]
        for part in self._uncompiled:
            compile_blocks(part)
        self._uncompiled = []
        rows, masks, sound = (torch.cat(each) for each in zip(*parts, strict=True))
        refuse_unless(sound.all())
        found = rows.cpu().double().numpy()  # one copy: picture, prompt, score, box
        ends = np.searchsorted(found[:, 0], np.arange(len(pixels) + 1))
        return [
            self._detections(found[first:last, 1:], masks[first:last], frame)
            for first, last, frame in zip(ends[:-1], ends[1:], frames, strict=True)
        ]

    def _detections(self, found: Floats, masks: Tensor, frame: Frame) -> Detections:
        scores = np.full((len(found), len(self._prompts)), np.nan)
        scores[np.arange(len(found)), found[:, 0].astype(np.int64)] = found[:, 1]
        return Detections(corners_in_picture(found[:, 2:], frame), scores, masks)

    def _levels(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """B×C×h×w each, the finest first."""
        return tuple(self._model.get_vision_features(pixel_values=pixels).fpn_hidden_states)

    def _asked(self, levels: Sequence[Tensor], pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Answers that are good enough, in the order of the pairs: n×7 and n×h×w.

        The last says whether all numbers are finite.

        Args:
            levels: See `_levels`.
            pairs: m×2, picture and prompt.
        """
        picture, prompt = pairs.unbind(1)
        seen = SimpleNamespace(
            fpn_hidden_states=[level[picture] for level in levels],
            fpn_position_encoding=[self._places(level, len(pairs)) for level in levels],
            hidden_states=None,
            attentions=None,
        )
        answer = self._model(
            vision_embeds=seen,
            text_embeds=SimpleNamespace(pooler_output=self._prompts[prompt]),
            attention_mask=self._mask[prompt],
        )
        sound = finite(answer.pred_logits, answer.presence_logits, answer.pred_boxes)
        scores = answer.pred_logits.float().sigmoid() * answer.presence_logits.float().sigmoid()
        place, query = (scores >= self._asking.least).nonzero().unbind(1)
        found = (
            pairs[place].float(),
            scores[place, query][:, None],
            answer.pred_boxes[place, query].float(),
        )
        masks = answer.pred_masks[place, query]
        return torch.cat(found, 1), masks, (sound & finite(masks))[None]

    def _places(self, level: Tensor, count: int) -> Tensor:
        """The positions of a level's cells, computed once a size."""
        shape = level[:1].shape
        if shape not in self._positions:
            neck = self._model.vision_encoder.neck
            self._positions[shape] = neck.position_encoding(shape, level.device, level.dtype)
        return self._positions[shape].expand(count, -1, -1, -1)


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
