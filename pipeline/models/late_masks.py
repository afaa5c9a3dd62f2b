"""Masks at full size once, after the last decoder layer, not after each.

The decoders of Mask2Former and OneFormer draw every query's mask at a quarter of the input's size
after each of their ten layers, then shrink it to the few cells to which the next layer attends.
Shrinking is linear, so it can come first: the features are shrunk, and the queries meet them there.
The answer is the same but for rounding; nine large products and the memory of ten stacks of masks
are saved.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from .fit_rule import Hw


def masks_of(embeddings: Tensor, features: Tensor) -> Tensor:
    """B×Q×h×w logits.

    Args:
        embeddings: B×Q×C, of the queries.
        features: B×C×h×w, of the pixels.
    """
    return torch.einsum("bqc,bchw->bqhw", embeddings, features)


def closed_to(embeddings: Tensor, features: Tensor, *, hw: Hw, heads: int) -> Tensor:
    """(B·heads)×Q×(h·w) bool, True where a query's mask is not and it may not attend.

    Args:
        embeddings: B×Q×C, of the queries.
        features: B×C×H×W, of the pixels.
        hw: Cells of the level that the next layer attends to.
        heads: Of its attention.
    """
    small = interpolate(features, size=hw, mode="bilinear", align_corners=False)
    closed = masks_of(embeddings, small).flatten(2).sigmoid() < 0.5
    return closed.unsqueeze(1).repeat(1, heads, 1, 1).flatten(0, 1)


class LateMaskPredictor(nn.Module):
    """Stands where Mask2Former's mask predictor was; its masks are the queries' embeddings.

    Args:
        predictor: The one it replaces.
    """

    def __init__(self, predictor: Any) -> None:
        super().__init__()
        self.mask_embedder = predictor.mask_embedder
        self._heads: int = predictor.num_heads

    def forward(
        self,
        outputs: Tensor,
        pixel_embeddings: Tensor,
        attention_mask_target_size: Hw,
    ) -> tuple[Tensor, Tensor]:
        """B×Q×C, and what is closed to the next layer's attention; names as in transformers."""
        embeddings = self.mask_embedder(outputs.transpose(0, 1))
        hw = attention_mask_target_size
        return embeddings, closed_to(embeddings, pixel_embeddings, hw=hw, heads=self._heads)


def postpone_oneformer(decoder: Any) -> None:
    """Lets a OneFormer's transformer decoder answer with the queries' embeddings as masks."""

    def heads(
        output: Tensor, mask_features: Tensor, attention_mask_target_size: Hw
    ) -> tuple[Tensor, Tensor, Tensor]:
        queries = decoder.decoder_norm(output).transpose(0, 1)
        embeddings = decoder.mask_embed(queries)
        hw = attention_mask_target_size
        closed = closed_to(embeddings, mask_features, hw=hw, heads=decoder.num_heads)
        return decoder.class_embed(queries), embeddings, closed

    decoder.forward_prediction_heads = heads
