"""Logits for bench/postprocess.py: what a universal model says of a full picture, from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import (
    Mask2FormerImageProcessor,
    OneFormerImageProcessor,
    SegformerImageProcessor,
)

from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.outputs import DenseOutput, QueryOutput

Hw = tuple[int, int]

QUERIES, CATEGORIES, THINGS = 100, 133, 80  # COCO panoptic, as in the published checkpoints
SURE = 22
"""Queries that name a category."""

SIZES: dict[Hw, Hw] = {(480, 640): (120, 160), (1080, 1920): (200, 336)}
"""Picture → grid: a quarter of an input whose shorter side is 480, or 800."""

LIMITS: dict[str, Any] = {"threshold": 0.5, "mask_threshold": 0.5}
"""transformers' defaults."""

ONEFORMER: Any = OneFormerImageProcessor
MASK2FORMER: Any = Mask2FormerImageProcessor
SEGFORMER: Any = SegformerImageProcessor
"""Their functions are called without a processor: they need nothing of it."""


def query_outputs(device: torch.device, hw: Hw, batch: int, *, noise: bool) -> list[QueryOutput]:
    """A batch of pictures of one size."""
    grid = SIZES[hw]
    size = (grid[0] * 4, grid[1] * 4)
    drawn = [_queries(seed, grid, noise=noise) for seed in range(batch)]
    classes = torch.stack([each for each, _ in drawn]).to(device)
    masks = torch.stack([each for _, each in drawn]).to(device)
    return [QueryOutput(*each, Frame(hw, size, size)) for each in zip(classes, masks, strict=True)]


def dense_outputs(queries: Sequence[QueryOutput]) -> list[DenseOutput]:
    """Logits a category with the same regions, as a semantic model would give them."""
    found = []
    for one in queries:
        shares = one.class_logits.softmax(-1)[:, :-1]
        maps = torch.einsum("qc,qhw->chw", shares, one.mask_logits.sigmoid())
        found.append(DenseOutput(maps.clamp(min=1e-6).log(), one.frame))
    return found


def answer_of(outputs: Sequence[QueryOutput]) -> Any:
    """The same as transformers' models give it."""
    return SimpleNamespace(
        class_queries_logits=torch.stack([one.class_logits for one in outputs]),
        masks_queries_logits=torch.stack([one.mask_logits for one in outputs]),
    )


def _queries(seed: int, grid_hw: Hw, *, noise: bool) -> tuple[Tensor, Tensor]:
    """Class logits Q×(C+1) and mask logits Q×h×w of one picture.

    The sure queries part the picture among them: smooth regions whose logits cross 0 within about
    a cell, saturate at ±11 and tremble a little. The others are faint everywhere. With `noise`
    every cell of every mask is drawn for itself, so that no region is larger than a cell.
    """
    draw = torch.Generator().manual_seed(seed)
    classes = torch.randn(QUERIES, CATEGORIES + 1, generator=draw)
    classes[:, -1] += 6
    sure = torch.randperm(QUERIES, generator=draw)[:SURE]
    categories = torch.randint(0, CATEGORIES, (SURE,), generator=draw)
    classes[sure, -1] -= 6
    classes[sure, categories] += 9 + 3 * torch.rand(SURE, generator=draw)
    if noise:
        return classes, 4 * torch.randn(QUERIES, *grid_hw, generator=draw)
    tremble = 0.3 * torch.randn(QUERIES, *grid_hw, generator=draw)
    masks = _smooth(QUERIES, grid_hw, 9, draw) - 7
    fields = _smooth(SURE, grid_hw, 7, draw)
    best, second = fields.topk(2, dim=0).values
    slope = fields.diff(dim=1).abs().mean() + fields.diff(dim=2).abs().mean()
    margin = fields - torch.where(fields == best, second, best)
    masks[sure] = (2.5 / slope * margin).clamp(-11, 11)
    return classes, masks + tremble


def _smooth(count: int, grid_hw: Hw, bumps: int, draw: torch.Generator) -> Tensor:
    across = max(2, round(bumps * grid_hw[1] / grid_hw[0]))
    coarse = torch.randn(1, count, bumps, across, generator=draw)
    return interpolate(coarse, grid_hw, mode="bicubic", align_corners=False)[0]
