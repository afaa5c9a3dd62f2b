"""A Grounding DINO on a GPU: weights in its precision, geometry in float32, one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pipeline.models.grids.geometry import Hw
from pipeline.models.network.blocks import compile_blocks, without_drop_path
from pipeline.models.network.deformable import use_kernel
from pipeline.models.network.forward import precision
from pipeline.models.network.pixel_decoder import cell_middles
from pipeline.models.network.weights import Cast, cast_weights, castable
from pipeline.models.network.windows import exchange_windows
from schemas.config.model import ModelConfig


def lean_grounding(model: Any, options: ModelConfig) -> torch.dtype | None:
    """Prepares a Grounding DINO or MM-Grounding-DINO.

    Args:
        model: Of transformers, on its device; changed where that is a GPU.
        options: Of the job.

    Returns:
        What pixels are cast to; None = the network is as it was and wants autocast.
    """
    device = next(model.parameters()).device
    if device.type != "cuda" or not use_kernel(model, padded=False):
        return None
    without_drop_path(model)
    exchange_windows(model)
    dtype = precision(options.dtype, device)
    found = None
    if dtype != torch.float32 and castable(model):
        exchange_geometry(model, dtype)
        found = dtype
    if options.compile:
        compile_blocks(model)
    return found


def exchange_geometry(model: Any, dtype: torch.dtype) -> None:
    """Casts the weights; proposals, references and boxes stay float32.

    The text encoder, which runs once a job, stays as it is.
    """
    inner = model.model
    lists = {id(each): each for each in (model.bbox_embed, inner.decoder.bbox_embed)}.values()
    wrapped = {head: Cast(head, torch.float32) for heads in lists for head in heads}
    cast_weights(model, dtype, keep=[inner.text_backbone, *wrapped])
    for heads in lists:  # one list or, from transformers 5.23 on, two
        for index, head in enumerate(heads):
            heads[index] = wrapped[head]
    inner.decoder.reference_points_head = Cast(inner.decoder.reference_points_head, dtype)
    inner.generate_encoder_output_proposals = partial(_proposals, inner)


def _proposals(
    inner: Any, features: Tensor, _padding: Tensor, shapes: Sequence[Hw]
) -> tuple[Tensor, Tensor]:
    """A box at every cell, 0.05 × 2^level of the picture wide, as logits; as transformers does.

    Without its cumulative sums over padding, of which there is none, and in float32.

    Returns:
        B×S×C object queries, and 1×S×4 float32.
    """
    middles = cell_middles(shapes, features.device)[0, :, 0]
    sides = torch.cat(
        [
            torch.full((height * width, 2), 0.05 * 2.0**level, device=features.device)
            for level, (height, width) in enumerate(shapes)
        ]
    )
    boxes = torch.cat((middles, sides), 1)[None]
    valid = ((boxes > 0.01) & (boxes < 0.99)).all(-1, keepdim=True)
    logits = torch.log(boxes / (1 - boxes)).masked_fill(~valid, float("inf"))
    queries = inner.enc_output_norm(inner.enc_output(features.masked_fill(~valid, 0.0)))
    return queries, logits
