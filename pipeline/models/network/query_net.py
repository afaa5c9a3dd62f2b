"""Query decoders that compute what an answer needs and nothing else.

The decoders of Mask2Former and OneFormer draw every query's mask at a quarter of the input's size
after each of their ten layers, then shrink it to the few cells to which the next layer attends.
Shrinking is linear, so it can come first: the features are shrunk, and the queries meet them there.
Attention's weights, which PyTorch's module averages over its heads for whoever wants to look at
them, are never written. The answer is the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pipeline.models.grids.geometry import Frame, Hw
from pipeline.models.grids.outputs import QueryOutput
from pipeline.models.postprocess.merge import Output, Outputs
from schemas.config.model import ModelConfig
from schemas.records import TASKS, Task

from .forward import Forward

# QueryNet: a network that gives queries once and answers every task from them.


class QueryNet:
    """Mask2Former, MaskFormer, EoMT and DETR: one forward pass, several merges.

    Args:
        model: Of transformers, on the device.
        device: Where it is.
        options: Of the job.
        queries: Reads B×Q×(C+1) class logits and B×Q×h×w mask logits off the model's answer.
    """

    def __init__(
        self,
        model: Any,
        *,
        device: str,
        options: ModelConfig,
        queries: Callable[[Any], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        self._model = model
        self._read = queries or _queries
        self._forward = Forward(self._queries, device=device, options=options)

    def look(self, pixels: Tensor, frames: Sequence[Frame]) -> Outputs:
        """The same output for each task."""
        class_logits, mask_logits = self._forward(pixels)
        outputs = query_outputs(class_logits, mask_logits, frames)
        answers: dict[Task, Sequence[Output]] = dict.fromkeys(TASKS, outputs)
        return answers

    def _queries(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self._read(self._model(pixels))


def _queries(answer: Any) -> tuple[Tensor, Tensor]:
    return answer.class_queries_logits, answer.masks_queries_logits


def query_outputs(
    class_logits: Tensor, mask_logits: Tensor, frames: Sequence[Frame]
) -> list[QueryOutput]:
    """One output a picture.

    Args:
        class_logits: B×Q×(C+1), the last column is "nothing".
        mask_logits: B×Q×h×w.
        frames: B frames.
    """
    return [QueryOutput(*each) for each in zip(class_logits, mask_logits, frames, strict=True)]


def masks_of(embeddings: Tensor, features: Tensor) -> Tensor:
    """B×Q×h×w logits.

    Args:
        embeddings: B×Q×C, of the queries.
        features: B×C×h×w, of the pixels.
    """
    return torch.einsum("bqc,bchw->bqhw", embeddings, features)


def closed_to(embeddings: Tensor, features: Tensor, *, hw: Hw, heads: int) -> Tensor:
    """(B·heads)×Q×(h·w) bool, True where a query's mask is not and it may not attend.

    A query whose mask is nowhere may attend everywhere.

    Args:
        embeddings: B×Q×C, of the queries.
        features: B×C×H×W, of the pixels.
        hw: Cells of the level that the next layer attends to.
        heads: Of its attention.
    """
    small = interpolate(features, size=hw, mode="bilinear", align_corners=False)
    closed = masks_of(embeddings, small).flatten(2).sigmoid() < 0.5
    closed = closed & ~closed.all(-1, keepdim=True)
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
        self, outputs: Tensor, pixel_embeddings: Tensor, attention_mask_target_size: Hw
    ) -> tuple[Tensor, Tensor]:
        """B×Q×C, and what is closed to the next layer's attention; names as in transformers."""
        embeddings = self.mask_embedder(outputs.transpose(0, 1))
        hw = attention_mask_target_size
        return embeddings, closed_to(embeddings, pixel_embeddings, hw=hw, heads=self._heads)


def lean_mask2former(decoder: Any) -> None:
    """Makes a Mask2Former's transformer decoder give the queries' embeddings as masks."""
    decoder.mask_predictor = LateMaskPredictor(decoder.mask_predictor)
    _without_weights(decoder)


def lean_oneformer(decoder: Any) -> None:
    """Makes a OneFormer's transformer decoder give the queries' embeddings as masks.

    Its layers look for fully closed rows by their indices, for which the GPU has to be waited for
    each time; here none is left to be found.
    """

    def heads(
        output: Tensor, mask_features: Tensor, attention_mask_target_size: Hw
    ) -> tuple[Tensor, Tensor, Tensor]:
        queries = decoder.decoder_norm(output).transpose(0, 1)
        embeddings = decoder.mask_embed(queries)
        hw = attention_mask_target_size
        closed = closed_to(embeddings, mask_features, hw=hw, heads=decoder.num_heads)
        return decoder.class_embed(queries), embeddings, closed

    decoder.forward_prediction_heads = heads
    for layer in decoder.layers:
        layer.forward = partial(_oneformer_layer, layer)
    _without_weights(decoder)


def _oneformer_layer(
    layer: Any,
    index: int,
    output: Tensor,
    multi_stage_features: Sequence[Tensor],
    multi_stage_positional_embeddings: Sequence[Tensor],
    attention_mask: Tensor,
    query_embeddings: Tensor,
    **_unused: Any,
) -> tuple[Tensor]:
    level = index % layer.num_feature_levels
    output, _ = layer.cross_attn(
        output,
        multi_stage_features[level],
        memory_mask=attention_mask,
        pos=multi_stage_positional_embeddings[level],
        query_pos=query_embeddings,
    )
    output, _ = layer.self_attn(output, query_pos=query_embeddings)
    return (layer.ffn(output),)


def _without_weights(decoder: nn.Module) -> None:
    for module in decoder.modules():
        if isinstance(module, nn.MultiheadAttention):
            attention: Any = module
            attention.forward = partial(attention.forward, need_weights=False)
