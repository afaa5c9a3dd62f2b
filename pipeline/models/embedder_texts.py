"""EmbedderTexts: texts as tokens, the way CLIP and SigLIP were taught to read them."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checkpoint_files import TOKENIZERS, read_json
from .info import ModelInfo

Reader = Callable[[str], list[int]]
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class EmbedderTexts:
    """p texts, filled up to the length that the text encoder reads.

    Attributes:
        tokens: p×t.
        mask: p×t, 1 = of the text, 0 = a filler.
    """

    tokens: list[list[int]]
    mask: list[list[int]]

    @classmethod
    def read(cls, info: ModelInfo, texts: Sequence[str]) -> EmbedderTexts:
        """Tokens of some texts.

        Args:
            info: The checkpoint with the tokenizer.
            texts: At least one.

        Raises:
            ValueError: No tokenizer, or a text that is too long or empty to it.
        """
        folder = Path(info.folder)
        siglip = info.config.get("model_type") == "siglip"
        settings = info.config.get("text_config") or {}
        longest = int(settings.get("max_position_embeddings") or (64 if siglip else 77))
        read, filler, left = _siglip_reader(folder) if siglip else _clip_reader(folder)
        found = [read(text) for text in texts]
        nothing = len(read(""))
        for text, tokens in zip(texts, found, strict=True):
            if len(tokens) > longest:
                raise ValueError(
                    f"the prompt {text!r} has {len(tokens)} tokens, start and end included; the "
                    f"model reads {longest} at most"
                )
            if len(tokens) <= nothing:
                raise ValueError(f"the prompt {text!r} has no token that the model knows")
        return cls(
            [_filled(tokens, longest, filler, left=left) for tokens in found],
            [_filled([1] * len(tokens), longest, 0, left=left) for tokens in found],
        )

    def on(self, device: str | torch.device) -> tuple[Tensor, Tensor]:
        """Both as int64 tensors."""
        return torch.tensor(self.tokens, device=device), torch.tensor(self.mask, device=device)


def _filled(values: list[int], length: int, filler: int, *, left: bool) -> list[int]:
    more = [filler] * (length - len(values))
    return [*more, *values] if left else [*values, *more]


def _clip_reader(folder: Path) -> tuple[Reader, int, bool]:
    """Text → tokens; the filler; whether fillers stand before the text."""
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise ValueError(f"{folder} holds no tokenizer ({' or '.join(TOKENIZERS)})")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return lambda text: list(tokenizer(text)["input_ids"]), tokenizer.pad_token_id or 0, False


def _siglip_reader(folder: Path) -> tuple[Reader, int, bool]:
    """As `_clip_reader`. Of tokenizer.json: transformers' own class needs sentencepiece.

    SigLIP 2 reads lower case, the first SigLIP no punctuation either; both end a text by one token
    and begin it by none.
    """
    from transformers import PreTrainedTokenizerFast

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ValueError(f"{folder} holds no tokenizer.json, with which a SigLIP reads its texts")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path))
    path = folder / "tokenizer_config.json"
    settings = read_json(path) if path.is_file() else {}
    first = str(settings.get("tokenizer_class", "")).startswith("SiglipTokenizer")
    end = _token(tokenizer, settings, "eos_token", "</s>" if first else "<eos>", folder)
    filler = _token(tokenizer, settings, "pad_token", "</s>" if first else "<pad>", folder)

    def read(text: str) -> list[int]:
        text = text.lower()
        if first:
            text = re.sub(r"\s+", " ", text.translate(_PUNCTUATION)).strip()
        return [*tokenizer(text, add_special_tokens=False)["input_ids"], end]

    return read, filler, settings.get("padding_side") == "left"


def _token(tokenizer: Any, settings: Mapping[str, Any], key: str, default: str, where: Path) -> int:
    value = settings.get(key) or default
    text = str(value["content"] if isinstance(value, dict) else value)
    number = tokenizer.get_vocab().get(text)
    if number is None:
        raise ValueError(f"{where}/tokenizer.json has no token {text!r}, its {key}")
    return int(number)
