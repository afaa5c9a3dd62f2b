"""Semantic: the best category of every pixel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.maps import Found, LabelMap
from pipeline.models.grids.outputs import DenseOutput, QueryOutput
from pipeline.models.grids.resample import Reading, cells_of, found_of, readings, units

from .backend import Path, path_for
from .winners import plain_winners

_AT_ONCE = {"cpu": 1 << 18}
"""Values of the grid whose softmax is taken at once; few on a CPU, whose cache should hold them."""

_LOGITS = 1 << 24
"""Mask logits that are enlarged at once."""


def merge_semantic(outputs: Sequence[DenseOutput], *, path: Path | None = None) -> list[LabelMap]:
    """Gives each pixel the category whose interpolated value is largest, the first of equals.

    A category's score is the mean of its probability (softmax; of `probabilities` the value
    itself, at most 1) over the cells of the grid that see the picture and where it is best. A
    category that is best between the cells only has its largest probability in any of them.

    Args:
        outputs: One a picture, all of one model.
        path: How pixels are found; None = the fastest on the device. All give the same.

    Returns:
        One map a picture; label n + 1 is category n, and those without a pixel are no segments.
    """
    if not outputs:
        return []
    if path_for(outputs[0].logits.device, path) == "kernels":
        from pipeline.models.kernels.dense_launch import merge_dense

        return merge_dense(outputs)
    return [_merged(output, path) for output in outputs]


def query_semantic(output: QueryOutput, *, per_cell: bool = False) -> DenseOutput:
    """What queries say of each category in each place: Σ p(category | query) · p(mask).

    Mask logits are enlarged to the input before their sigmoid is taken, as the code of the papers
    does it, and as instances and panoptic segments are made.

    Args:
        output: One picture's.
        per_cell: The sigmoid is taken in the cells of the network's own grid, as transformers does
            it for OneFormer, MaskFormer and DETR.

    Returns:
        Maps on a grid of the input's pixels, or on the network's own.
    """
    categories = output.class_logits.float().softmax(-1)[:, :-1]
    masks, frame = output.mask_logits, output.frame
    own_hw = (masks.shape[1], masks.shape[2])
    grid = own_hw if per_cell else frame.input_hw
    columns_last = masks.device.type == "cpu"  # all categories of a place lie together: see `cells`
    shape = (*grid, categories.shape[1]) if columns_last else (categories.shape[1], *grid)
    maps = torch.empty(shape, device=masks.device)
    y, _ = readings(Frame(grid, grid, grid), own_hw, masks.device)
    step = max(1, _LOGITS // max(1, len(masks) * grid[1]))
    for start in range(0, grid[0], step):
        rows = slice(start, min(start + step, grid[0]))
        some = y.part(rows.start, rows.stop)
        first, last = int(some.low[0]), int(some.high[-1]) + 1
        some = Reading(some.low - first, some.high - first, some.weight)
        logits = masks[:, first:last].float()
        if not per_cell:
            logits = some.along(logits, 1)[None]  # rows first: a part's rim has its neighbours
            size = (logits.shape[2], grid[1])
            logits = functional.interpolate(logits, size, mode="bilinear")[0]
        share = logits.sigmoid().flatten(1)
        if columns_last:
            torch.mm(share.T, categories, out=maps[rows].view(-1, maps.shape[2]))
        else:
            maps[:, rows] = (categories.T @ share).unflatten(1, (-1, grid[1]))
    if columns_last:
        maps = maps.permute(2, 0, 1)
    return DenseOutput(maps, frame, probabilities=True)


def _merged(output: DenseOutput, path: Path | None) -> LabelMap:
    maps = output.logits.float()
    if path_for(maps.device, path) == "cells":
        from .cells import cell_winners, points_first

        maps = torch.from_numpy(points_first(maps)).permute(2, 0, 1)
        winners = cell_winners(maps, output.frame)
    else:
        winners = plain_winners(maps, output.frame)
    return LabelMap(winners.labels.T, _found(output, maps))


def _found(output: DenseOutput, maps: Tensor) -> Found:
    count, height, width = maps.shape
    rows, columns = cells_of(output.frame, (height, width))
    device = maps.device
    # Per category: cells where it is best, and the sums of probability and agreement over them.
    sums = torch.zeros((3, count), dtype=torch.int64, device=device)
    most = torch.zeros(count, device=device)
    step = max(1, _AT_ONCE.get(device.type, 1 << 24) // (count * width))
    for start in range(rows.start, rows.stop, step):
        some = slice(start, min(start + step, rows.stop))
        cells = maps[:, some, columns].permute(1, 2, 0).reshape(-1, count)
        if device.type == "cpu":  # NumPy is three times as fast there
            best = torch.from_numpy(cells.numpy().argmax(-1))
        else:
            best = cells.argmax(-1)  # the first of equals, as NumPy's
        shares = cells.clamp(0, 1) if output.probabilities else cells.softmax(-1)
        ones = torch.ones_like(best)
        parts = [ones, units(shares.gather(-1, best[:, None])[:, 0]), ones]
        if output.agreement is not None:
            parts[2] = units(output.agreement[some, columns].flatten().float())
        sums.index_add_(1, best, torch.stack(parts))
        most = torch.maximum(most, shares.amax(0))
    cells_won, probability, agreed = sums.cpu().numpy()
    return found_of(
        cells_won,
        probability,
        most.double().cpu().numpy(),
        None if output.agreement is None else agreed,
    )
