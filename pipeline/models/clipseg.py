"""The family `clipseg`: CLIPSeg, a map of the picture for each prompt; semantic.

Every prompt is embedded once, when the weights are loaded, and a picture is encoded once; the
small decoder runs once a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.load import load_pretrained
from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.outputs import DenseOutput
from pipeline.models.network.forward import Forward
from pipeline.models.network.segmenter import DenseFamily, TorchSegmenter
from pipeline.models.postprocess.merge import Outputs
from pipeline.models.text.request import TextRequest, Texts, read_asking, read_texts
from schemas.config.model import ModelConfig
from schemas.records import Task

_TOGETHER = 32
"""Prompts that the decoder does at once; the activations of so many take 0.3 GB a picture."""


class ClipSeg(DenseFamily):
    """Labels pictures with regions that texts describe; see `families.Segmenter`.

    Args:
        info: The checkpoint; `info.asking` has the prompts.
        options: Of the job.
        tasks: "semantic" alone.

    Raises:
        ValueError: No prompts, a prompt that is too long, another task, a file is missing.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        if tasks != ("semantic",):
            raise ValueError(
                f"CLIPSeg tells regions apart, not things: the task is 'semantic', not "
                f"{', '.join(tasks)}"
            )
        self._info = info
        self._options = options
        self._asking = read_asking(info, options)
        self._texts = read_texts(info, self._asking, longest=77)
        outputs = replace(
            info,
            categories=self._asking.ontology.categories(),
            category_ids=(*self._asking.ontology.ids(), 0),  # the last is "nothing"
        )
        rule = read_fit_rule(preprocessor(info.folder))
        self._shared = TorchSegmenter(outputs, options, tasks, rule=rule)
        self.prompts = _only_prompts(self._asking)

    def _net(self, device: str) -> PromptMaps:
        from transformers import CLIPSegForImageSegmentation

        model: Any = load_pretrained(
            CLIPSegForImageSegmentation,
            self._info,
            device=device,
            allow_pickle=self._options.allow_pickle,
        )
        return PromptMaps(model, self._texts, self._asking, device=device, options=self._options)


class PromptMaps:
    """One map a category, and one more: how much it takes to be anything.

    A category's probability is that of its best prompt. A cell goes to its most probable category,
    unless that stays below the category's threshold or one of the category's negative prompts is
    more probable there: both make up the last map.

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
        with torch.inference_mode():
            tokens, mask = texts.on(device)
            clip = model.clip
            read = clip.text_model(input_ids=tokens, attention_mask=mask, return_dict=True)
            self._embedded = clip.text_projection(read.pooler_output)
        self._model = model
        embeddings = model.clip.vision_model.embeddings
        embeddings.interpolate_pos_encoding = _Places(embeddings.interpolate_pos_encoding)
        self._positive, self._negative = (
            [
                [
                    place
                    for place, phrase in enumerate(asking.phrases)
                    if phrase.category == index and phrase.negative == negative
                ]
                for index in range(len(asking.ontology.category))
            ]
            for negative in (False, True)
        )
        least = [
            asking.threshold if item.min_score is None else item.min_score
            for item in asking.ontology.category
        ]
        self._least = torch.tensor(least, device=device)
        self._forward = Forward(self._maps, device=device, options=options, model=model)

    def look(self, pixels: Tensor, frames: Sequence[Frame]) -> Outputs:
        """One dense output of probabilities a picture."""
        (logits,) = self._forward(pixels)
        found = logits.sigmoid() + 0 * logits  # infinity becomes NaN, which is seen later
        planes = self._best(found, self._positive)
        against = self._best(found, self._negative)
        winner = planes.argmax(1, keepdim=True)
        nothing = torch.maximum(self._least[winner], against.gather(1, winner))
        maps = torch.cat((planes, nothing), 1)
        return {
            "semantic": [
                DenseOutput(each, frame, probabilities=True)
                for each, frame in zip(maps, frames, strict=True)
            ]
        }

    def _maps(self, pixels: Tensor) -> tuple[Tensor]:
        """B×p×h×w logits."""
        seen = self._model.clip.vision_model(
            pixel_values=pixels,
            interpolate_pos_encoding=True,
            output_hidden_states=True,
            return_dict=True,
        ).hidden_states
        layers = [seen[index + 1] for index in self._model.extract_layers]
        prompts = self._embedded.to(pixels.dtype)
        parts = [self._decoded(layers, some) for some in prompts.split(_TOGETHER)]
        return (torch.cat(parts, 1),)

    def _decoded(self, layers: Sequence[Tensor], prompts: Tensor) -> Tensor:
        count, pictures = len(prompts), len(layers[0])
        repeated = [layer.repeat_interleave(count, 0) for layer in layers]
        logits = self._model.decoder(repeated, prompts.repeat(pictures, 1), return_dict=True).logits
        return logits.reshape(pictures, count, *logits.shape[-2:])

    @staticmethod
    def _best(found: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
        """The largest map of each group of prompts; 0 for a group without one."""
        none = torch.zeros_like(found[:, 0])
        return torch.stack(
            [found[:, list(group)].amax(1) if group else none for group in groups], 1
        )


class _Places:
    """Positions of a picture's cells, enlarged from those that were learnt once a size.

    Args:
        inner: The library's function, which enlarges them for every batch.
    """

    def __init__(self, inner: Callable[[Tensor, int, int], Tensor]) -> None:
        self._inner = inner
        self._kept: dict[tuple[int, int], Tensor] = {}

    def __call__(self, cells: Tensor, height: int, width: int) -> Tensor:
        key = (height, width)
        if key not in self._kept:
            self._kept[key] = self._inner(cells, height, width)
        return self._kept[key]


def _only_prompts(asking: TextRequest) -> dict[int, str]:
    """Category id → its prompt, of those that have one."""
    return {
        id_: item.phrases[0]
        for id_, item in zip(asking.ontology.ids(), asking.ontology.category, strict=True)
        if len(item.phrases) == 1
    }
