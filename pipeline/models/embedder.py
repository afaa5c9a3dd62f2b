"""Embedder: pictures and texts as unit vectors of one space (CLIP, SigLIP), or pictures alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from schemas.model_config import ModelConfig

from .embedder_input import EmbedderInput, read_embedder_input
from .embedder_kinds import embedder_kind
from .embedder_texts import EmbedderTexts
from .forward import Forward
from .info import ModelInfo
from .pretrained import load_pretrained

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
        pooled = self._model.vision_model(pixel_values=pixels).pooler_output
        if self._kind.scores == "softmax":
            pooled = self._model.visual_projection(pooled)
        return (pooled,)


def cosines(left: Tensor, right: Tensor) -> np.ndarray:
    """n×m float64 of n×d and m×d unit vectors; n×0 where there is nothing to compare with."""
    if not len(left) or not len(right):
        return np.zeros((len(left), len(right)))
    return (left.double() @ right.double().T).cpu().numpy()
