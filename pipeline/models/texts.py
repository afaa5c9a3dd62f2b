"""Texts: prompts as tokens, each a text of its own, for text encoders like CLIP's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .info import ModelInfo
from .text_asking import TextAsking, single_texts


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


def read_texts(info: ModelInfo, asking: TextAsking, *, longest: int) -> Texts:
    """The prompts of a job.

    Args:
        info: The checkpoint with the tokenizer.
        asking: What is looked for.
        longest: Tokens that the text encoder reads at most, if its configuration does not say.

    Raises:
        ValueError: A prompt is too long, or has no token.
    """
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(info.folder, local_files_only=True)
    settings = info.config.get("text_config") or {}
    limit = asking.limit(int(settings.get("max_position_embeddings") or longest))
    return Texts(
        *single_texts(
            asking.phrases,
            lambda text: tokenizer(text)["input_ids"],
            limit=limit,
            filler=tokenizer.pad_token_id or 0,
        )
    )
