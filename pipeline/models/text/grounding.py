"""A Grounding DINO's pass without what no picture of ours needs, geometry in float32.

Transformers' own pass makes masks of padding that there is none of, scores and boxes after every
layer of the decoder, and copies lists to a GPU in its middle, which no graph can record; up to some
version it also counts the "." after a phrase as the first of its tokens. Here texts are read once a
job, and a picture is encoded once for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.models.grids.geometry import Hw
from pipeline.models.network.pixel_decoder import cell_middles
from pipeline.models.network.weights import Cast, cast_weights

from .phrases import Chunk

_KEPT = 48
"""Sizes of inputs whose positions are kept. Those that are kept stay: a recorded graph reads
them."""

_EDGE = 1e-5
"""How near to 0 and 1 a share is taken for its logit, as in the library."""


@dataclass(frozen=True, slots=True)
class _Text:
    """What the network read; t tokens.

    Attributes:
        states: 1×t×C float32, of the text network.
        apart: 1×t×t bool, True where a token may not attend to another.
        places: 1×t×C float32, of each token in its phrase.
    """

    states: Tensor
    apart: Tensor
    places: Tensor


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the cells of an input lie; S cells of all levels.

    Attributes:
        shapes: Of the levels.
        positions: 1×S×C, of the precision.
        middles: 1×S×levels×2 float32, (x, y) as shares of the sides.
        closed: 1×S bool, False: nothing is padding.
    """

    shapes: list[Hw]
    positions: Tensor
    middles: Tensor
    closed: Tensor


class LeanGrounding:
    """Calls the parts of a Grounding DINO or MM-Grounding-DINO, for all texts of a job.

    Args:
        model: Of transformers, float32, on its device, its deformable attentions exchanged (see
            `network.deformable`). Weights may be cast later by `exchange_geometry`.
        chunks: The texts, read here, once.
    """

    def __init__(self, model: Any, chunks: Sequence[Chunk]) -> None:
        self._model = model
        self._inner = model.model
        self._texts = [read_text(model.model, chunk) for chunk in chunks]
        self._layouts: dict[tuple[Any, ...], _Layout] = {}

    def __call__(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """For each text B×Q×t logits of its tokens and B×Q×4 float32 boxes, as the library's.

        Args:
            pixels: B×3×h×w, of the precision of the weights.
        """
        levels = self._levels(pixels)
        layout = self._layout(levels)
        cells = torch.cat([each.flatten(2).transpose(1, 2) for each in levels], 1)
        return tuple(part for text in self._texts for part in self._answer(cells, layout, text))

    def _levels(self, pixels: Tensor) -> list[Tensor]:
        """B×C×h×w each, fine to coarse; the coarsest are made of the last of the backbone."""
        features = list(self._inner.backbone.conv_encoder.model(pixels, return_dict=True)[0])
        project = self._inner.input_proj_vision
        levels = [made(each) for made, each in zip(project, features, strict=False)]
        for made in project[len(features) :]:
            levels.append(made(features[-1] if len(levels) == len(features) else levels[-1]))
        return levels

    def _layout(self, levels: Sequence[Tensor]) -> _Layout:
        shapes = [(each.shape[2], each.shape[3]) for each in levels]
        key = (*shapes, levels[0].dtype)
        found = self._layouts.get(key)
        if found is None:
            found = self._laid_out(levels, shapes)
            if len(self._layouts) < _KEPT:
                self._layouts[key] = found
        return found

    def _laid_out(self, levels: Sequence[Tensor], shapes: list[Hw]) -> _Layout:
        device, positions = levels[0].device, []
        for level, shape in enumerate(shapes):
            whole = torch.ones((1, *shape), dtype=torch.bool, device=device)
            own = self._inner.backbone.position_embedding(levels[level][:1].float(), whole)
            positions.append(own.flatten(2).transpose(1, 2) + self._inner.level_embed[level])
        cells = torch.cat(positions, 1).to(levels[0].dtype)
        middles = cell_middles(shapes, device)
        closed = torch.zeros(cells.shape[:2], dtype=torch.bool, device=device)
        return _Layout(shapes, cells, middles, closed)

    def _answer(self, cells: Tensor, layout: _Layout, text: _Text) -> tuple[Tensor, Tensor]:
        batch = len(cells)
        words = self._inner.text_projection(text.states.to(cells.dtype)).expand(batch, -1, -1)
        places = text.places.to(cells.dtype).expand(batch, -1, -1)
        for layer in self._inner.encoder.layers:
            (cells, words), _ = layer(
                vision_features=cells,
                vision_position_embedding=layout.positions,
                spatial_shapes=None,
                spatial_shapes_list=layout.shapes,
                level_start_index=None,
                key_padding_mask=layout.closed.expand(batch, -1),
                reference_points=layout.middles.expand(batch, -1, -1, -1),
                text_features=words,
                text_position_embedding=places,
                text_self_attention_masks=text.apart.expand(batch, -1, -1),
            )
        references = self._proposals(cells, words, layout)
        return self._decoded(cells, words, references, layout)

    def _proposals(self, cells: Tensor, words: Tensor, layout: _Layout) -> Tensor:
        """B×Q×4 float32: the boxes of the cells that say most to a word."""
        inner = self._inner
        boxes, valid = cell_boxes(layout.middles, layout.shapes)
        queries = inner.enc_output_norm(inner.enc_output(cells.masked_fill(~valid, 0.0)))
        # MM-Grounding-DINO's scores are these, scaled and shifted: the order is the same.
        fit = (queries @ words.transpose(1, 2)).amax(-1)
        best = fit.topk(inner.config.num_queries, dim=1).indices[..., None]
        chosen = queries.gather(1, best.expand(-1, -1, queries.shape[2]))
        own = boxes.expand(len(cells), -1, -1).gather(1, best.expand(-1, -1, 4))
        return (inner.encoder_output_bbox_embed(chosen) + own).sigmoid()

    def _decoded(
        self, cells: Tensor, words: Tensor, references: Tensor, layout: _Layout
    ) -> tuple[Tensor, Tensor]:
        decoder, batch = self._inner.decoder, len(cells)
        hidden = self._inner.query_position_embeddings.weight.expand(batch, -1, -1)
        before = references
        for layer, head in zip(decoder.layers, decoder.bbox_embed, strict=True):
            before = references
            positions = sine_positions(references, hidden.shape[2] // 2)
            (hidden, *_) = layer(
                hidden_states=hidden,
                position_embeddings=decoder.reference_points_head(positions),
                reference_points=references[:, :, None].expand(-1, -1, len(layout.shapes), -1),
                spatial_shapes_list=layout.shapes,
                vision_encoder_hidden_states=cells,
                text_encoder_hidden_states=words,
            )
            references = (head(hidden) + torch.special.logit(references, eps=_EDGE)).sigmoid()
        last = decoder.layer_norm(hidden)
        known = torch.ones(words.shape[:2], dtype=torch.bool, device=words.device)
        logits = self._model.class_embed[-1](last, words, known)[..., : words.shape[1]]
        boxes = self._model.bbox_embed[-1](last) + torch.special.logit(before, eps=_EDGE)
        return logits, boxes.sigmoid()


def unlike_published(config: Mapping[str, Any]) -> str:
    """What `LeanGrounding` does not know of an architecture, "" = nothing.

    Args:
        config: Of the checkpoint; what it does not say is as in published ones.
    """
    if not config.get("two_stage", True):
        return "a network without proposals (two_stage = false) is not supported"
    if not (int(config.get("num_feature_levels", 4)) > 1 and config.get("num_queries", 900)):
        return "a network of one feature level is not supported"
    return ""


def read_text(inner: Any, chunk: Chunk) -> _Text:
    """Reads a text by the network inside; a phrase and the "." after it see nothing else."""
    device, count = inner.level_embed.device, len(chunk.tokens)
    together = torch.eye(count, dtype=torch.bool)
    places = torch.zeros(count, dtype=torch.long)
    for first, last in chunk.spans:
        together[first : last + 1, first : last + 1] = True
        places[first : last + 1] = torch.arange(last + 1 - first)
    together, places = together[None].to(device), places[None].to(device)
    tokens = torch.tensor([chunk.tokens], device=device)
    read = inner.text_backbone(
        tokens, together[:, None], torch.zeros_like(tokens), places, return_dict=True
    )
    own = sine_positions(places[..., None].float(), inner.level_embed.shape[1])
    return _Text(read.last_hidden_state.float(), ~together, own)


def sine_positions(shares: Tensor, channels: int) -> Tensor:
    """…×(n·channels) float32: sines and cosines of 2π × each number, y before x.

    As in transformers' `encode_sinusoidal_position_embedding` (Vaswani et al. 2017, section 3.5,
    with base 10000).

    Args:
        shares: …×n float32: one number, or (x, y, …).
        channels: For each number.
    """
    at = torch.arange(channels, dtype=torch.float32, device=shares.device)
    base = 10000 ** (2 * torch.div(at, 2, rounding_mode="floor") / channels)
    waves = shares[..., None] * (2 * math.pi) / base
    found = torch.stack((waves[..., 0::2].sin(), waves[..., 1::2].cos()), -1).flatten(-2)
    if found.shape[-2] > 1:
        x, y, *rest = found.unbind(-2)
        found = torch.stack((y, x, *rest), -2)
    return found.flatten(-2)


def cell_boxes(middles: Tensor, shapes: Sequence[Hw]) -> tuple[Tensor, Tensor]:
    """A box at every cell, 0.05 × 2^level of the picture wide, as transformers has it.

    Returns:
        1×S×4 float32 logits of (x, y, width, height), infinite at the picture's edge, and 1×S×1
        bool, False there.
    """
    device = middles.device
    sides = torch.cat(
        [
            torch.full((height * width, 2), 0.05 * 2.0**level, device=device)
            for level, (height, width) in enumerate(shapes)
        ]
    )
    boxes = torch.cat((middles[0, :, 0], sides), 1)[None]
    valid = ((boxes > 0.01) & (boxes < 0.99)).all(-1, keepdim=True)
    return torch.log(boxes / (1 - boxes)).masked_fill(~valid, float("inf")), valid


def exchange_geometry(model: Any, dtype: torch.dtype) -> None:
    """Casts the weights; references and boxes stay float32.

    The text encoder, which runs once a job, stays as it is.
    """
    inner = model.model
    lists = {id(each): each for each in (model.bbox_embed, inner.decoder.bbox_embed)}.values()
    wrapped = {head: Cast(head, torch.float32) for heads in lists for head in heads}
    wrapped[inner.encoder_output_bbox_embed] = Cast(inner.encoder_output_bbox_embed, torch.float32)
    cast_weights(model, dtype, keep=[inner.text_backbone, *wrapped])
    for heads in lists:  # one list or, from transformers 5.23 on, two
        for index, head in enumerate(heads):
            heads[index] = wrapped[head]
    inner.encoder_output_bbox_embed = wrapped[inner.encoder_output_bbox_embed]
    inner.decoder.reference_points_head = Cast(inner.decoder.reference_points_head, dtype)
