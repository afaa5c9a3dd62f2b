"""Outputs of a model that never was: smooth regions or noise, from a seed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.outputs import QueryOutput

CELL = 4


def smooth(rng: np.random.Generator, count: int, grid_hw: tuple[int, int], scale: float) -> Tensor:
    """count×h×w: a few bumps each."""
    coarse = torch.from_numpy(rng.normal(size=(1, count, 4, 4)).astype(np.float32))
    return scale * torch.nn.functional.interpolate(coarse, grid_hw, mode="bilinear")[0]


def noise(rng: np.random.Generator, count: int, grid_hw: tuple[int, int], scale: float) -> Tensor:
    """count×h×w: every cell for itself."""
    return scale * torch.from_numpy(rng.normal(size=(count, *grid_hw)).astype(np.float32))


def classes(rng: np.random.Generator, queries: int, categories: int, sure: int) -> Tensor:
    """queries×(categories + 1) logits: the first `sure` queries name a category, others none."""
    logits = rng.normal(size=(queries, categories + 1)).astype(np.float32)
    logits[sure:, -1] += 6
    logits[np.arange(sure), rng.integers(0, categories, sure)] += 4 + 4 * rng.random(sure)
    return torch.from_numpy(logits)


def query_output(
    seed: int,
    *,
    picture_hw: tuple[int, int],
    grid_hw: tuple[int, int],
    queries: int = 8,
    categories: int = 5,
    rough: bool = False,
    content: float = 1.0,
) -> QueryOutput:
    """One picture's queries; the picture fills a share `content` of the input, off its corner."""
    rng = np.random.default_rng(seed)
    draw = noise if rough else smooth
    return QueryOutput(
        classes(rng, queries, categories, max(1, queries - 2)),
        draw(rng, queries, grid_hw, 4.0),
        frame_of(picture_hw, grid_hw, content),
    )


def frame_of(picture_hw: tuple[int, int], grid_hw: tuple[int, int], content: float = 1.0) -> Frame:
    """A picture in an input of `CELL` pixels a cell."""
    input_hw = (grid_hw[0] * CELL, grid_hw[1] * CELL)
    content_hw = (max(1, int(input_hw[0] * content)), max(1, int(input_hw[1] * content)))
    offset = ((input_hw[0] - content_hw[0]) // 2, (input_hw[1] - content_hw[1]) // 3)
    return Frame(picture_hw, content_hw, input_hw, offset)
