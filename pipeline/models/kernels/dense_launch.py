"""Runs the kernels that decide over whole pictures: semantic and panoptic.

A kernel's row of a picture holds addresses, so tensors of a batch may lie anywhere; whoever calls
keeps them alive until the next copy to the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.models.grids.geometry import Axis, Frame
from pipeline.models.grids.maps import Floats, Ints, LabelMap, Winners, label_dtype
from pipeline.models.grids.outputs import DenseOutput, QueryOutput
from pipeline.models.grids.resample import axes_of, cells_of, found_of
from pipeline.models.grids.transfer import fetch, upload

from . import dense

_TILE_XY = (8, 64)
"""Pixels of a program."""

_CELLS = 256
"""Cells of the grid of a program."""

ELEMENTS: dict[torch.dtype, Any] = {
    torch.float32: dense.tl.float32,
    torch.float16: dense.tl.float16,
    torch.bfloat16: dense.tl.bfloat16,
}


def merge_dense(outputs: Sequence[DenseOutput]) -> list[LabelMap]:
    """See `merge_semantic`."""
    maps = ready([output.logits for output in outputs])
    count, device = len(maps[0]), maps[0].device
    agreements = _agreements(outputs)
    cells, pixels = [], []
    place = spot = 0
    for each, output, agreement in zip(maps, outputs, agreements, strict=True):
        _, height, width = each.shape
        rows, columns = cells_of(output.frame, (height, width))
        tall, wide = output.frame.picture_hw
        head = [each.data_ptr(), *each.stride()]
        seen = [rows.start, rows.stop, columns.start, columns.stop]
        address = 0 if agreement is None else agreement.data_ptr()
        cells.append([*head, height * width, width, place, *seen, address])
        reading = kernel_readings(output.frame, (height, width), device)
        pixels.append([*head, width, place, *addresses(reading), tall, wide, spot])
        place += height * width
        spot += tall * wide
    table = upload(np.array(cells), np.array(pixels), device=device)
    best = torch.empty(place, dtype=torch.int32, device=device)
    known = len(maps) * count
    sums = torch.zeros(4 * known, dtype=torch.int64, device=device)
    most = sums[3 * known :].view(torch.int32)
    labels = torch.empty(spot, dtype=label_dtype(count), device=device)
    element = ELEMENTS[maps[0].dtype]
    blocks = -(-max(row[4] for row in cells) // _CELLS)
    with on(device):
        dense.best_cells[(blocks, len(maps))](
            *(table[0], best, sums, most, known, count),
            fields=len(cells[0]),
            element=element,
            probabilities=outputs[0].probabilities,
            size=_CELLS,
        )
        dense.best_values[(_tiles(outputs), len(maps))](
            *(table[1], best, labels, count),
            fields=len(pixels[0]),
            element=element,
            size_x=_TILE_XY[0],
            size_y=_TILE_XY[1],
        )
    whole = fetch(sums)
    number, probability, agreed = whole[: 3 * known].reshape(3, len(maps), count)
    largest = whole[3 * known :].view(np.float32)[:known].reshape(len(maps), count)
    return [
        LabelMap(
            each.T,
            found_of(
                number[index],
                probability[index],
                largest[index].astype(np.float64),
                None if agreements[index] is None else agreed[index],
            ),
        )
        for index, each in enumerate(_split(labels, outputs))
    ]


def query_winners(
    outputs: Sequence[QueryOutput], threshold: float, mask_threshold: float
) -> list[tuple[Ints, Ints, Floats, Winners]]:
    """See `merge_panoptic`: numbers, categories and scores of the queries that found something,
    and how they fared.
    """
    masks = ready([output.mask_logits for output in outputs])
    device = masks[0].device
    classes = torch.stack([output.class_logits for output in outputs]).float()
    _, count, categories = classes.shape
    scores, best = classes.softmax(-1).max(-1)
    both = fetch(torch.stack((scores, best.float())))
    kept = (both[1] != categories - 1) & (both[0] > np.float32(threshold))
    rows, places = [], []
    spot = 0
    for each, output, some in zip(masks, outputs, kept, strict=True):
        height, width = output.frame.picture_hw
        reading = kernel_readings(output.frame, (each.shape[1], each.shape[2]), device)
        queries = np.flatnonzero(some)
        rows.append(
            [
                *(each.data_ptr(), *each.stride(), *addresses(reading)),
                *(height, width, spot, len(queries)),
            ]
        )
        places.append(np.pad(queries, (0, count - len(queries))))
        spot += height * width
    table = upload(np.array(rows), np.array(places), device=device)
    labels = torch.empty(spot, dtype=label_dtype(count), device=device)
    counts = torch.zeros((2, len(masks), count), dtype=torch.int32, device=device)
    with on(device):
        dense.best_queries[(_tiles(outputs), len(masks))](
            *(table[0], table[1], scores, labels, counts[0], counts[1], count),
            float(mask_threshold),  # a whole number would make another kernel
            fields=len(rows[0]),
            element=ELEMENTS[masks[0].dtype],
            size_x=_TILE_XY[0],
            size_y=_TILE_XY[1],
        )
    visible, own = fetch(counts).astype(np.int64)
    found = []
    for index, each in enumerate(_split(labels, outputs)):
        queries = np.flatnonzero(kept[index])
        number = len(queries)
        winners = Winners(each, visible[index, :number], own[index, :number])
        score, of = both[:, index, queries].astype(np.float64)
        found.append((queries, of.astype(np.int64), score, winners))
    return found


def renumber(labels: Sequence[Tensor], tables: Sequence[Ints]) -> None:
    """Replaces each picture's labels by their entries of its table, in place.

    Args:
        labels: Contiguous, of one type.
        tables: One a picture.
    """
    if all(np.array_equal(table, np.arange(len(table))) for table in tables):
        return
    device = labels[0].device
    longest = max(len(table) for table in tables)
    first = labels[0].data_ptr()
    size = labels[0].element_size()
    rows = [[(each.data_ptr() - first) // size, each.numel()] for each in labels]
    entries = np.stack([np.pad(table, (0, longest - len(table))) for table in tables])
    table = upload(np.array(rows), entries, device=device)
    block = 4096
    blocks = -(-max(each.numel() for each in labels) // block)
    with on(device):
        dense.renumber_kernel[(blocks, len(labels))](
            table[0], labels[0], table[1], longest - 1, fields=2, size=block
        )


def ready(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of one type that kernels read."""
    types = {each.dtype for each in tensors}
    if len(types) == 1 and types <= ELEMENTS.keys():
        return list(tensors)
    return [each.float() for each in tensors]


@lru_cache(maxsize=64)
def kernel_readings(
    frame: Frame, grid_hw: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Of rows and columns, as kernels want them: cells before, cells after, weights."""
    y, x = (_packed(axis) for axis in axes_of(frame, grid_hw))
    return torch.from_numpy(y).to(device), torch.from_numpy(x).to(device)


def addresses(tensors: Sequence[Tensor]) -> list[int]:
    """Where tensors begin in memory."""
    return [each.data_ptr() for each in tensors]


def on(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _packed(axis: Axis) -> npt.NDArray[np.int32]:
    return np.concatenate((axis.low, axis.high, axis.weight.view(np.int32)))


def _tiles(outputs: Sequence[DenseOutput] | Sequence[QueryOutput]) -> int:
    """Programs that the largest picture needs."""
    sizes = [output.frame.picture_hw for output in outputs]
    return max(-(-w // _TILE_XY[0]) * -(-h // _TILE_XY[1]) for h, w in sizes)


def _split(labels: Tensor, outputs: Sequence[DenseOutput] | Sequence[QueryOutput]) -> list[Tensor]:
    """W×H labels of each picture: views."""
    sizes = [output.frame.picture_hw for output in outputs]
    parts = labels.split([height * width for height, width in sizes])
    return [each.view(width, height) for each, (height, width) in zip(parts, sizes, strict=True)]


def _agreements(outputs: Sequence[DenseOutput]) -> list[Tensor | None]:
    """As kernels read them: float32, row by row."""
    known = [output.agreement for output in outputs]
    return [None if each is None else each.float().contiguous() for each in known]
