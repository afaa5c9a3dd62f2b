"""The family `omdet-turbo`: OmDet-Turbo finds boxes by text, a SAM masks.

Each prompt is a text of its own and a column of the scores. Beside them the network reads a task,
"Detect cat, dog.", whose length is limited: many prompts are asked in several tasks. Texts are
read once, when the weights are loaded, and the picture is encoded once for all tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.load import load_pretrained
from pipeline.models.grids.finite import check_finite
from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.transfer import fetch_all
from pipeline.models.network.forward import Forward
from pipeline.models.network.segmenter import NetworkFamily
from pipeline.models.text.detections import Detections, of_several_texts
from pipeline.models.text.outlines import masks_beside
from pipeline.models.text.phrases import Phrase
from pipeline.models.text.request import TextRequest, Texts, read_asking, read_texts
from pipeline.models.text.segmenter import TextSegmenter
from schemas.config.model import ModelConfig
from schemas.records import Task

_LONGEST = 77
"""Tokens of a text; CLIP's text encoder reads no more."""

_SWIN = "swin_tiny_patch4_window7_224"
"""Of timm: the backbone of configurations that name none."""


class OmDetTurbo(NetworkFamily):
    """Labels pictures with what texts ask for; see `families.Segmenter`.

    Args:
        info: The detector; `info.partner` is the SAM, `info.asking` the prompts.
        options: Of the job.
        tasks: "instance", or "panoptic" where conflicts leave no overlap.

    Raises:
        ValueError: No SAM, no prompts, a prompt that is too long, a file is missing.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        self._info = info
        self._options = options
        self._asking = read_asking(info, options)
        self._forget: Callable[[], object] = lambda: None
        self._texts = read_texts(info, self._asking, longest=_LONGEST)
        self._tasks = read_tasks(info, self._asking)
        self._shared = TextSegmenter(
            self._asking,
            options,
            tasks,
            rule=read_fit_rule(preprocessor(info.folder)),
            outliner=masks_beside(info, options),
        )

    def close(self) -> None:
        """Frees the weights."""
        self._shared.close()
        self._forget()

    def _net(self, device: str) -> TaskFinder:
        from transformers import OmDetTurboConfig, OmDetTurboForObjectDetection

        model: Any = load_pretrained(
            OmDetTurboForObjectDetection,
            self._info,
            device=device,
            allow_pickle=self._options.allow_pickle,
            config=OmDetTurboConfig.from_dict(offline_config(self._info.config)),
        )
        # Transformers caches the anchors of a size, and the network with them.
        self._forget = type(model.decoder).generate_anchors.cache_clear
        return TaskFinder(
            model, self._texts, self._tasks, self._asking, device=device, options=self._options
        )


def offline_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration in which the backbone is spelt out.

    The published one names a network of timm. Transformers (5.17 to 5.23) then asks the hub
    whether that is a repository, and fails where there is no network.
    """
    found = dict(config)
    own = {"img_size": config.get("image_size") or 640, "always_partition": True}
    backbone = {
        "model_type": "timm_backbone",
        "backbone": found.pop("backbone", None) or _SWIN,
        "out_indices": [1, 2, 3],
        **own,
        **(found.pop("backbone_kwargs", None) or {}),
    }
    for key in ("use_timm_backbone", "use_pretrained_backbone"):
        found.pop(key, None)
    if not found.get("backbone_config"):
        found["backbone_config"] = backbone
    return found


@dataclass(frozen=True, slots=True)
class DetectionTask:
    """Prompts that are asked together.

    Attributes:
        phrases: Indices of the prompts.
        tokens: Of the text that names them.
    """

    phrases: tuple[int, ...]
    tokens: tuple[int, ...]


def read_tasks(info: ModelInfo, asking: TextRequest) -> list[DetectionTask]:
    """The tasks that ask about all prompts of a job.

    Raises:
        ValueError: A prompt is too long for a task of its own.
    """
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(
        info.folder, local_files_only=True, trust_remote_code=False
    )
    return tasks_of(
        asking.phrases,
        lambda text: tokenizer(text)["input_ids"],
        limit=asking.limit(_LONGEST),
    )


def tasks_of(
    phrases: Sequence[Phrase], tokenize: Callable[[str], Sequence[int]], *, limit: int
) -> list[DetectionTask]:
    """Packs prompts into as few tasks as their order allows.

    Args:
        phrases: In order.
        tokenize: Text → its tokens, start and end included.
        limit: Tokens of a task at most; transformers cuts off what is longer.

    Raises:
        ValueError: A prompt is too long for a task of its own.
    """
    tasks: list[DetectionTask] = []
    start = 0
    while start < len(phrases):
        fits: DetectionTask | None = None
        for end in range(start + 1, len(phrases) + 1):
            names = ", ".join(phrase.text for phrase in phrases[start:end])
            tokens = tuple(tokenize(f"Detect {names}."))
            if len(tokens) > limit:
                break
            fits = DetectionTask(tuple(range(start, end)), tokens)
        if fits is None:
            text = phrases[start].text
            raise ValueError(
                f"the prompt {text!r} makes a task of {len(tokenize(f'Detect {text}.'))} tokens; "
                f"the model reads {limit} at most"
            )
        tasks.append(fits)
        start += len(fits.phrases)
    return tasks


@dataclass(frozen=True, slots=True)
class _Read:
    """A task after the text encoder.

    Attributes:
        phrases: Indices of its p prompts.
        prompts: p×1×c.
        words: t×1×c.
        mask: 1×t, 1 for all: no task of a batch is longer than another.
    """

    phrases: list[int]
    prompts: Tensor
    words: Tensor
    mask: Tensor


class TaskFinder:
    """Boxes, and the score of each prompt of a task.

    Transformers' post-processing keeps as many pairs of box and prompt as the network has queries
    and suppresses overlapping boxes of a prompt. Here each box answers once, with its best
    category, and masks are compared instead of boxes.

    The decoder runs in float32 whatever the job's precision is: it computes places of boxes in the
    type of its input, and in bfloat16 they would be off by up to 1/256 of the picture.

    Args:
        model: Of transformers, on its device.
        texts: The prompts.
        tasks: What asks for them.
        asking: What is looked for.
        device: Where it runs.
        options: Of the job.
    """

    def __init__(
        self,
        model: Any,
        texts: Texts,
        tasks: Sequence[DetectionTask],
        asking: TextRequest,
        *,
        device: str,
        options: ModelConfig,
    ) -> None:
        self._asking = asking
        self._model = model
        self._tasks: list[_Read] = []
        tokens, _ = texts.on(device)
        with torch.inference_mode():
            prompts = model.language_backbone(tokens, encode_type="class")[:, None]
            for task in tasks:
                whole = torch.tensor([task.tokens], device=device)
                words, mask = model.language_backbone(
                    whole, mask=torch.ones_like(whole), encode_type="task"
                )
                own = list(task.phrases)
                self._tasks.append(_Read(own, prompts[own], words, mask))
        self._forward = Forward(self._look, device=device, options=options)

    def find(self, pixels: Tensor, frames: Sequence[Frame]) -> list[Detections]:
        """See `Finder`."""
        features = self._forward(pixels)
        found = [self._answers(features, task) for task in self._tasks]
        return of_several_texts(
            fetch_all(found),
            [task.phrases for task in self._tasks],
            frames,
            phrases=len(self._asking.phrases),
        )

    def _look(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The features of three scales, B×c×h×w."""
        seen = self._model.vision_backbone(pixels)
        return tuple(self._model.encoder(seen, return_dict=True).extracted_states)

    def _answers(self, features: Sequence[Tensor], task: _Read) -> Tensor:
        """Answers that are good enough: n×(picture, box, score of each prompt of the task)."""
        count = len(features[0])
        answer = self._model.decoder(
            list(features),
            task.prompts.expand(-1, count, -1),
            task.words.expand(-1, count, -1),
            task.mask.expand(count, -1),
            return_dict=True,
        )
        check_finite(answer.decoder_classes[-1], answer.decoder_coords[-1])
        scores = answer.decoder_classes[-1].sigmoid()
        keep = (scores.amax(-1) >= self._asking.least).nonzero()
        picture, query = keep.unbind(1)
        boxes = answer.decoder_coords[-1][picture, query]
        return torch.cat((picture[:, None].float(), boxes, scores[picture, query]), 1)
