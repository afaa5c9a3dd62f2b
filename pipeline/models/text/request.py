"""TextRequest: what a text-prompted model looks for, checked. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.models.checkpoints.families import FAMILIES
from pipeline.models.checkpoints.info import ModelInfo
from schemas.config.model import ModelConfig
from schemas.config.prompts import ConflictsConfig
from schemas.prompts import Ontology

from .phrases import Phrase, known_tokens, phrases_of


@dataclass(frozen=True, slots=True)
class TextRequest:
    """What to look for, and what is good enough.

    Attributes:
        ontology: Categories and their prompts.
        phrases: All of its prompts, the negative ones among them.
        threshold: Score of an answer at least, for categories that set none.
        conflicts: How overlapping masks are resolved.
        chunk_tokens: Tokens of a text at most, 0 = what the model can read.
        text_threshold: Of each single token of a phrase, or None.
    """

    ontology: Ontology
    phrases: tuple[Phrase, ...]
    threshold: float
    conflicts: ConflictsConfig
    chunk_tokens: int = 0
    text_threshold: float | None = None

    @property
    def least(self) -> float:
        """The lowest score that any category takes."""
        own = [item.min_score for item in self.ontology.category]
        return min(self.threshold if score is None else score for score in own)

    def limit(self, longest: int) -> int:
        """Tokens of a text at most, where the model reads `longest`."""
        return min(self.chunk_tokens or longest, longest)


def read_asking(
    info: ModelInfo, options: ModelConfig, *, scores_tokens: bool = False
) -> TextRequest:
    """What a job asks of a text-prompted model.

    Args:
        info: Of the model.
        options: Of the job.
        scores_tokens: The model scores single tokens, so that they can have a threshold.

    Raises:
        ValueError: Nothing is asked, or something that such a model cannot do.
    """
    asking = info.asking
    if asking is None or asking.ontology is None:
        raise ValueError(
            f"the model {info.name} is asked by text: give --prompt or --ontology "
            "(prompts.text or prompts.ontology)"
        )
    if asking.from_file:
        raise ValueError(
            f"prompts.file: points and boxes are for SAM; {info.name} is asked by text"
        )
    if asking.prompts.text_threshold is not None and not scores_tokens:
        raise ValueError(
            f"prompts.text_threshold: {info.name} scores no single tokens, only Grounding DINO "
            "does; set model.threshold"
        )
    return TextRequest(
        ontology=asking.ontology,
        phrases=tuple(phrases_of(asking.ontology)),
        threshold=FAMILIES[info.family].thresholds.under(options).score,
        conflicts=asking.conflicts,
        chunk_tokens=asking.prompts.chunk_tokens,
        text_threshold=asking.prompts.text_threshold,
    )


def single_texts(
    phrases: Sequence[Phrase], tokenize: Callable[[str], Sequence[int]], *, limit: int, filler: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Each phrase as a text of its own, for models with a text encoder like CLIP's.

    Args:
        phrases: p of them.
        tokenize: Text → its tokens, start and end included.
        limit: Tokens of a text at most.
        filler: Token that fills the shorter texts.

    Returns:
        p×`limit` tokens, and p×`limit` flags: 1 = read it, 0 = a filler.

    Raises:
        ValueError: A phrase is too long, or has no token.
    """
    texts = [list(tokenize(phrase.text)) for phrase in phrases]
    for phrase, tokens in zip(phrases, texts, strict=True):
        if len(tokens) > limit:
            raise ValueError(
                f"the prompt {phrase.text!r} has {len(tokens)} tokens, start and end included; "
                f"the model reads {limit} at most"
            )
        if len(tokens) < 3:
            raise ValueError(f"the prompt {phrase.text!r} has no token that the model knows")
    spare = [limit - len(tokens) for tokens in texts]
    return (
        [[*tokens, *[filler] * more] for tokens, more in zip(texts, spare, strict=True)],
        [[1] * len(tokens) + [0] * more for tokens, more in zip(texts, spare, strict=True)],
    )


# Texts: prompts as tokens, each a text of its own, for text encoders like CLIP's.


@dataclass(frozen=True, slots=True)
class Texts:
    """p prompts.

    Attributes:
        tokens: p×t.
        mask: p×t, 1 = read it, 0 = a filler.
    """

    tokens: list[list[int]]
    mask: list[list[int]]

    def on(self, device: str | torch.device) -> tuple[Tensor, Tensor]:
        """Both as int64 tensors."""
        return torch.tensor(self.tokens, device=device), torch.tensor(self.mask, device=device)


def read_texts(info: ModelInfo, asking: TextRequest, *, longest: int) -> Texts:
    """The prompts of a job.

    Args:
        info: The checkpoint with the tokenizer.
        asking: What is looked for.
        longest: Tokens that the text encoder reads at most, if its configuration does not say.

    Raises:
        ValueError: A prompt is too long, or has no token.
    """
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(
        info.folder, local_files_only=True, trust_remote_code=False
    )
    settings = info.config.get("text_config") or {}
    limit = asking.limit(int(settings.get("max_position_embeddings") or longest))
    return Texts(
        *single_texts(
            asking.phrases,
            lambda text: known_tokens(
                tokenizer(text)["input_ids"], tokenizer.unk_token_id, start=1, end=1
            ),
            limit=limit,
            filler=tokenizer.pad_token_id or 0,
        )
    )
