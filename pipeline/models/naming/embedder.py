"""Embedder: pictures and texts as unit vectors of one space (CLIP, SigLIP), or pictures alone."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.models.checkpoints.families import embedder_kind
from pipeline.models.checkpoints.files import TOKENIZERS, read_json
from pipeline.models.checkpoints.hf_preprocessor import EmbedderInput, read_embedder_input
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.load import load_pretrained
from pipeline.models.grids.finite import check_finite
from pipeline.models.network.forward import Forward
from pipeline.models.text.phrases import known_tokens
from schemas.config.model import ModelConfig

# EmbedderTexts: texts as tokens, the way CLIP and SigLIP were taught to read them.

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
        siglip = info.config.get("model_type") in ("siglip", "siglip2")
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
    tokenizer: Any = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )

    def read(text: str) -> list[int]:
        found = tokenizer(text)["input_ids"]
        return known_tokens(found, tokenizer.unk_token_id, start=1, end=1)

    return read, tokenizer.pad_token_id or 0, False


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

    unknown = tokenizer.get_vocab().get("<unk>")

    def read(text: str) -> list[int]:
        text = text.lower()
        if first:
            text = re.sub(r"\s+", " ", text.translate(_PUNCTUATION)).strip()
        found = tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*known_tokens(found, unknown), end]

    return read, filler, settings.get("padding_side") == "left"


def _token(tokenizer: Any, settings: Mapping[str, Any], key: str, default: str, where: Path) -> int:
    value = settings.get(key) or default
    text = str(value["content"] if isinstance(value, dict) else value)
    number = tokenizer.get_vocab().get(text)
    if number is None:
        raise ValueError(f"{where}/tokenizer.json has no token {text!r}, its {key}")
    return int(number)


_TOGETHER = 256
"""Texts that are read at once."""


class Embedder:
    """A network that embeds.

    Args:
        info: Its checkpoint.
        options: Of the job.
        texts: What it will be asked to read.

    Raises:
        ValueError: The checkpoint lacks a file, or a text is too long.

    Attributes:
        rule: Its input.
        scale: By which it multiplies cosines of pictures and texts; known after `load`.
        bias: Which it adds then.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, texts: Sequence[str] = ()) -> None:
        self._info = info
        self._options = options
        self._kind = embedder_kind(info.config)
        self._texts = EmbedderTexts.read(info, texts) if texts else None
        self.rule: EmbedderInput = read_embedder_input(info.folder)
        self.scale = 1.0
        self.bias = 0.0
        self._model: Any = None
        self._forward: Forward | None = None

    def load(self, device: str) -> None:
        """Reads the weights.

        Raises:
            ValueError: They do not fit the architecture.
        """
        import transformers

        self._model = load_pretrained(
            getattr(transformers, self._kind.network),
            self._info,
            device=device,
            allow_pickle=self._options.allow_pickle,
        )
        if self._kind.scores:
            self.scale = self._model.logit_scale.exp().item()
        if self._kind.scores == "sigmoid":
            self.bias = self._model.logit_bias.item()
        self._forward = Forward(self._pooled, device=device, options=self._options)

    def pictures(self, pixels: Tensor) -> Tensor:
        """Embeds pictures.

        Args:
            pixels: B×3×side×side float32, normalised, on the device.

        Returns:
            B×d float32, of length 1.

        Raises:
            RuntimeError: `load` was not called.
        """
        if self._forward is None:
            raise RuntimeError("load() has to be called first")
        (pooled,) = self._forward(pixels)
        check_finite(pooled)
        return normalize(pooled, dim=-1)

    def texts(self) -> Tensor:
        """Embeds the texts, in float32: they are few, and every score depends on them.

        Returns:
            p×d float32, of length 1; 0×d without texts.

        Raises:
            RuntimeError: `load` was not called.
        """
        if self._model is None:
            raise RuntimeError("load() has to be called first")
        if self._texts is None:
            return torch.zeros(0, 0)
        model, (tokens, mask) = self._model, self._texts.on(self._model.device)
        found = []
        with torch.inference_mode():
            for some, read in zip(tokens.split(_TOGETHER), mask.split(_TOGETHER), strict=True):
                if self._kind.scores == "softmax":
                    pooled = model.text_model(input_ids=some, attention_mask=read).pooler_output
                    found.append(model.text_projection(pooled))
                else:  # SigLIP was trained to read the fillers too
                    found.append(model.text_model(input_ids=some).pooler_output)
        return normalize(torch.cat(found).float(), dim=-1)

    def close(self) -> None:
        """Frees the weights."""
        self._model = self._forward = None

    def _pooled(self, pixels: Tensor) -> tuple[Tensor]:
        if not self._kind.scores:
            return (self._model(pixel_values=pixels).pooler_output,)
        if self.rule.patch:
            pooled = self._model.vision_model(**_patches(pixels, self.rule.patch)).pooler_output
        else:
            pooled = self._model.vision_model(pixel_values=pixels).pooler_output
        if self._kind.scores == "softmax":
            pooled = self._model.visual_projection(pooled)
        return (pooled,)


def _patches(pixels: Tensor, side: int) -> dict[str, Tensor]:
    """B×3×h×w as SigLIP 2 NaFlex takes it: patches row by row, colours last, and how they lie."""
    batch, channels, height, width = pixels.shape
    down, across = height // side, width // side
    cut = pixels.view(batch, channels, down, side, across, side).permute(0, 2, 4, 3, 5, 1)
    return {
        "pixel_values": cut.reshape(batch, down * across, -1),
        "pixel_attention_mask": torch.ones(
            (batch, down * across), dtype=torch.int64, device=pixels.device
        ),
        "spatial_shapes": torch.tensor([[down, across]] * batch),
    }


def cosines(left: Tensor, right: Tensor) -> np.ndarray:
    """n×m float64 of n×d and m×d unit vectors; n×0 where there is nothing to compare with."""
    if not len(left) or not len(right):
        return np.zeros((len(left), len(right)))
    return (left.double() @ right.double().T).cpu().numpy()
