"""Query decoders that compute what an answer needs and nothing else.

The decoders of Mask2Former and OneFormer draw every query's mask at a quarter of the input's size
after each of their ten layers, then shrink it to the few cells to which the next layer attends.
Shrinking is linear, so it can come first: the features are shrunk, and the queries meet them there.
Attention's weights, which PyTorch's module averages over its heads for whoever wants to look at
them, are never written. The answer is the same but for rounding.
"""

from __future__ import annotations

import weakref
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

from .attention import lean_attentions
from .forward import Forward

# QueryNet: a network that gives queries once and answers every task from them.


class QueryNet:
    """Mask2Former, MaskFormer, EoMT and DETR: one forward pass, several merges.

    Args:
        model: Of transformers, on the device.
        device: Where it is.
        options: Of the job.
        queries: Reads B×Q×(C+1) class logits and B×Q×h×w mask logits off the model's answer.
        function: Called in place of the model.
    """

    def __init__(
        self,
        model: Any,
        *,
        device: str,
        options: ModelConfig,
        queries: Callable[[Any], tuple[Tensor, Tensor]] | None = None,
        function: Callable[[Tensor], Any] | None = None,
    ) -> None:
        self._model = function or model
        self._read = queries or _queries
        self._forward = Forward(self._queries, device=device, options=options, model=model)

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


def closed_to(embeddings: Tensor, features: Tensor, *, hw: Hw, heads: int | None) -> Tensor:
    """(B·heads)×Q×(h·w) bool, True where a query's mask is not and it may not attend.

    A query whose mask is nowhere may attend everywhere.

    Args:
        embeddings: B×Q×C, of the queries.
        features: B×C×H×W, of the pixels.
        hw: Cells of the level that the next layer attends to.
        heads: Of its attention; None = one mask for all of them, B×1×Q×(h·w).
    """
    return closed_at(embeddings, shrink(features, hw), heads=heads)


def shrink(features: Tensor, hw: Hw) -> Tensor:
    """B×C×h×w, read bilinearly at the middles of fewer cells.

    By an even factor a middle lies between four cells, of which it is the mean: PyTorch's kernel
    takes 1 ms for what is then a quarter of it to read.
    """
    if features.is_cuda:
        tall, wide = features.shape[2] // hw[0], features.shape[3] // hw[1]
        exact = (tall * hw[0], wide * hw[1]) == tuple(features.shape[2:])
        if exact and tall % 2 == 0 and wide % 2 == 0:
            return _middles(features, tall, wide)
    return interpolate(features, size=hw, mode="bilinear", align_corners=False)


def _middles(features: Tensor, tall: int, wide: int) -> Tensor:
    top, left = tall // 2 - 1, wide // 2 - 1
    upper, lower = features[:, :, top::tall], features[:, :, top + 1 :: tall]
    rows = (upper[..., left::wide] + upper[..., left + 1 :: wide]).float()
    return (
        (rows + lower[..., left::wide] + lower[..., left + 1 :: wide]).mul(0.25).to(features.dtype)
    )


class Shrunk:
    """The features of a batch at the sizes of the decoder's levels, each made once.

    Ten layers ask for three sizes.
    """

    def __init__(self) -> None:
        self._of: weakref.ref[Tensor] | None = None
        self._made: dict[Hw, Tensor] = {}

    def __call__(self, features: Tensor, hw: Hw) -> Tensor:
        """As `shrink`."""
        if self._of is None or self._of() is not features:
            self._of, self._made = weakref.ref(features), {}
        key = (int(hw[0]), int(hw[1]))
        if key not in self._made:
            self._made[key] = shrink(features, key)
        return self._made[key]


def closed_at(embeddings: Tensor, small: Tensor, *, heads: int | None) -> Tensor:
    """As `closed_to`, from features that are shrunk already."""
    closed = masks_of(embeddings, small).flatten(2).sigmoid() < 0.5
    closed = closed & ~closed.all(-1, keepdim=True)
    if heads is None:
        return closed.unsqueeze(1)
    return closed.unsqueeze(1).repeat(1, heads, 1, 1).flatten(0, 1)


class LateMaskPredictor(nn.Module):
    """Stands where Mask2Former's mask predictor was; its masks are the queries' embeddings.

    Args:
        predictor: The one it replaces.
        heads: See `closed_to`.
    """

    def __init__(self, predictor: Any, heads: int | None) -> None:
        super().__init__()
        self.mask_embedder = predictor.mask_embedder
        self._heads = heads
        self._shrunk = Shrunk() if heads is None else shrink

    def forward(
        self, outputs: Tensor, pixel_embeddings: Tensor, attention_mask_target_size: Hw
    ) -> tuple[Tensor, Tensor]:
        """B×Q×C, and what is closed to the next layer's attention; names as in transformers."""
        embeddings = self.mask_embedder(outputs.transpose(0, 1))
        hw = attention_mask_target_size
        small = self._shrunk(pixel_embeddings, hw)
        return embeddings, closed_at(embeddings, small, heads=self._heads)


def lean_mask2former(decoder: Any, *, fused: bool = False) -> None:
    """Makes a Mask2Former's transformer decoder give the queries' embeddings as masks.

    Args:
        decoder: It is changed.
        fused: Attend by `lean_attention` too: the same up to rounding.
    """
    heads = None if fused else decoder.mask_predictor.num_heads
    decoder.mask_predictor = LateMaskPredictor(decoder.mask_predictor, heads)
    lean_attentions(decoder) if fused else _without_weights(decoder)


def lean_oneformer(decoder: Any, *, fused: bool = False) -> None:
    """Makes a OneFormer's transformer decoder give the queries' embeddings as masks.

    Its layers look for fully closed rows by their indices, for which the GPU has to be waited for
    each time; here none is left to be found.

    Args:
        decoder: It is changed.
        fused: Attend by `lean_attention` too: the same up to rounding.
    """
    attention_heads = None if fused else decoder.num_heads
    shrunk = Shrunk() if fused else shrink

    def heads(
        output: Tensor, mask_features: Tensor, attention_mask_target_size: Hw
    ) -> tuple[Tensor, Tensor, Tensor]:
        queries = decoder.decoder_norm(output).transpose(0, 1)
        embeddings = decoder.mask_embed(queries)
        hw = attention_mask_target_size
        closed = closed_at(embeddings, shrunk(mask_features, hw), heads=attention_heads)
        return decoder.class_embed(queries), embeddings, closed

    decoder.forward_prediction_heads = heads
    for layer in decoder.layers:
        layer.forward = partial(_oneformer_layer, layer)
    lean_attentions(decoder) if fused else _without_weights(decoder)


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
