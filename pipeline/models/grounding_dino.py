"""The family `grounding-dino`: Grounding DINO and MM-Grounding-DINO find boxes, a SAM masks.

The text is laid out here, token by token: `[CLS] phrase . phrase . [SEP]`. A score is therefore
known to be of a phrase by the place of its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.load import load_pretrained
from pipeline.models.grids.finite import check_finite
from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.transfer import fetch_all
from pipeline.models.network.deformable import exchange
from pipeline.models.network.forward import Forward
from pipeline.models.network.segmenter import NetworkFamily
from pipeline.models.text.detections import Detections, of_several_texts
from pipeline.models.text.grounding import LeanGrounding, exchange_geometry, unlike_published
from pipeline.models.text.outlines import masks_beside
from pipeline.models.text.phrases import Chunk, chunked, known_tokens
from pipeline.models.text.request import TextRequest, read_asking
from pipeline.models.text.segmenter import TextSegmenter
from schemas.config.model import ModelConfig
from schemas.records import Task

_CLASSES = {
    "grounding-dino": "GroundingDinoForObjectDetection",
    "mm-grounding-dino": "MMGroundingDinoForObjectDetection",
}
"""model_type → class of transformers."""

_DELIMITERS = {"[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
"""BERT's ids, by which the networks (transformers 5.23) tell where a phrase ends."""


class GroundingDino(NetworkFamily):
    """Labels pictures with what a text asks for; see `families.Segmenter`.

    Args:
        info: The detector; `info.partner` is the SAM, `info.asking` the prompts.
        options: Of the job.
        tasks: "instance", or "panoptic" where conflicts leave no overlap.

    Raises:
        ValueError: No SAM, no prompts, a prompt that is too long, a file is missing, an
            architecture that no published checkpoint has.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        self._info = info
        self._options = options
        if unknown := unlike_published(info.config):
            raise ValueError(f"{info.name}: {unknown}")
        self._asking = read_asking(info, options, scores_tokens=True)
        self._chunks = text_chunks(info, self._asking)
        self._shared = TextSegmenter(
            self._asking,
            options,
            tasks,
            rule=read_fit_rule(preprocessor(info.folder)),
            outliner=masks_beside(info, options),
        )

    def _net(self, device: str) -> PhraseFinder:
        import transformers

        model: Any = load_pretrained(
            getattr(transformers, _CLASSES[str(self._info.config["model_type"])]),
            self._info,
            device=device,
            allow_pickle=self._options.allow_pickle,
        )
        return PhraseFinder(model, self._chunks, self._asking, options=self._options)


def text_chunks(info: ModelInfo, asking: TextRequest) -> list[Chunk]:
    """The texts that the network will read.

    A "." or "?" inside a phrase would end it there; each becomes a space.

    Raises:
        ValueError: A phrase is too long, or the tokenizer is not BERT's.
    """
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(
        info.folder, local_files_only=True, trust_remote_code=False
    )
    found = {word: tokenizer.convert_tokens_to_ids(word) for word in _DELIMITERS}
    if found != _DELIMITERS:
        raise ValueError(
            f"{info.folder}: the tokenizer numbers {found}; the network looks for {_DELIMITERS}"
        )

    def tokenize(text: str) -> list[int]:
        plain = text.lower().replace(".", " ").replace("?", " ")
        found = tokenizer(plain, add_special_tokens=False)["input_ids"]
        return known_tokens(found, tokenizer.unk_token_id)

    return chunked(
        asking.phrases,
        tokenize,
        limit=asking.limit(int(info.config.get("max_text_len", 256))),
        start=[_DELIMITERS["[CLS]"]],
        between=[_DELIMITERS["."]],
        end=[_DELIMITERS["[SEP]"]],
    )


class PhraseFinder:
    """Boxes and the score of each phrase.

    A phrase's score is the mean of its tokens' probabilities, as in the authors' evaluation on
    COCO (they average over a category's tokens). Transformers' own post-processing takes the best
    token instead and reads the name off all tokens above a threshold, which merges phrases.

    Args:
        model: Of transformers, on its device; it is changed.
        chunks: Texts.
        asking: What is looked for.
        options: Of the job.
    """

    def __init__(
        self, model: Any, chunks: Sequence[Chunk], asking: TextRequest, *, options: ModelConfig
    ) -> None:
        device = next(model.parameters()).device
        self._asking = asking
        self._chunks = chunks
        self._means = [_means(chunk).to(device) for chunk in chunks]
        exchange(model, padded=False, inverted=False)
        self._look = Forward(
            LeanGrounding(model, chunks),
            device=device,
            options=options,
            model=model,
            cast=exchange_geometry,
        )

    def find(self, pixels: Tensor, frames: Sequence[Frame]) -> list[Detections]:
        """See `Finder`."""
        seen = self._look(pixels)
        parts = [self._of_text(index, *seen[2 * index :][:2]) for index in range(len(self._chunks))]
        return of_several_texts(
            fetch_all(parts),
            [chunk.phrases for chunk in self._chunks],
            frames,
            phrases=len(self._asking.phrases),
        )

    def _of_text(self, index: int, logits: Tensor, boxes: Tensor) -> Tensor:
        """Answers that are good enough: n×(5 + phrases of the text)."""
        means = self._means[index]
        check_finite(logits, boxes)
        chances = logits.float().sigmoid()
        scores = chances @ means
        if self._asking.text_threshold is not None:
            unsure = (chances < self._asking.text_threshold).float() @ (means > 0).float()
            scores = scores.masked_fill(unsure > 0, 0)
        keep = (scores.amax(-1) >= self._asking.least).nonzero()
        picture, query = keep.unbind(1)
        return torch.cat(
            (picture[:, None].float(), boxes[picture, query].float(), scores[picture, query]), 1
        )


def _means(chunk: Chunk) -> Tensor:
    """t×phrases; a column averages over the tokens of its phrase."""
    means = torch.zeros(len(chunk.tokens), len(chunk.phrases))
    for place, (first, last) in enumerate(chunk.spans):
        means[first:last, place] = 1 / (last - first)
    return means
