"""Runs the kernels that paint masks inside rectangles: instances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.models.grids.maps import (
    Floats,
    Ints,
    Painted,
    Rectangles,
    boxes_of_cells,
    place_rectangles,
)
from pipeline.models.grids.outputs import BoxOutput, QueryOutput
from pipeline.models.grids.resample import axes_of, from_units
from pipeline.models.grids.transfer import fetch, upload

from . import masks as kernels
from .dense_launch import ELEMENTS, addresses, kernel_readings, on, ready

_TILE_XY = (16, 64)
"""Pixels of a program."""

_CELLS = 1024
"""Cells of the grid that a program reads at once."""


def paint_queries(
    outputs: Sequence[QueryOutput], queries: Sequence[Ints], cut: float
) -> list[Painted]:
    """The masks of some queries of each picture.

    Args:
        outputs: One a picture.
        queries: Ascending, of each picture.
        cut: Logit that a pixel must exceed.
    """
    masks = ready([output.mask_logits for output in outputs])
    device = masks[0].device
    planes = np.concatenate([_planes(*each) for each in zip(masks, queries, strict=True)])
    counts = [len(some) for some in queries]
    rectangles = _rectangles(outputs, planes, counts, cut, masks[0])
    sizes = [each.size for each in rectangles]
    known = len(planes)
    pixels = torch.zeros(sum(sizes), dtype=torch.uint8, device=device)
    sums = torch.zeros(2 * known, dtype=torch.int64, device=device)
    tiles = tiles_of(rectangles, _TILE_XY)
    if len(tiles):
        of = np.repeat(np.arange(len(masks)), counts)
        rows = np.concatenate(
            (planes[:, :3], _pictures(outputs, device)[of], _places(rectangles)), axis=1
        )
        table = upload(rows, tiles, device=device)
        with on(device):
            kernels.paint_masks[(len(tiles),)](
                *(*table, pixels, sums, known, cut),
                fields=rows.shape[1],
                element=ELEMENTS[masks[0].dtype],
                size_x=_TILE_XY[0],
                size_y=_TILE_XY[1],
            )
    areas, totals = fetch(sums).reshape(2, known)
    ends = np.cumsum(counts)[:-1]
    return [
        Painted(each, part, area, from_units(total))
        for each, part, area, total in zip(
            rectangles, pixels.split(sizes), np.split(areas, ends), np.split(totals, ends),
            strict=True,
        )
    ]  # fmt: skip


def paint_boxes(
    outputs: Sequence[BoxOutput],
    boxes_xyxy: Sequence[Floats],
    rectangles: Sequence[Rectangles],
    threshold: float,
) -> list[Tensor]:
    """The masks of each picture's detections, one flat buffer a picture.

    Args:
        outputs: One a picture, masks of one size.
        boxes_xyxy: Of the detections, pixels of the picture.
        rectangles: Where each mask is painted.
        threshold: Probability that a pixel must exceed.
    """
    probs = torch.cat(ready([output.mask_probs for output in outputs]))
    framed = torch.nn.functional.pad(probs, (1, 1, 1, 1))
    device, cells = framed.device, probs.shape[-1]
    sizes = [each.size for each in rectangles]
    pixels = torch.zeros(sum(sizes), dtype=torch.uint8, device=device)
    tiles = tiles_of(rectangles, _TILE_XY)
    if len(tiles):
        where = _places(rectangles)  # left, top, width, height, place, stride
        step = framed.stride(0) * framed.element_size()
        address = framed.data_ptr() + step * np.arange(len(where), dtype=np.int64)
        side = np.full(len(where), cells)
        rows = np.concatenate((np.stack((address, side), axis=1), where[:, 2:]), axis=1)
        boxes = np.concatenate(boxes_xyxy)
        scale = cells / np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
        shift = (where[:, :2] + 0.5 - boxes[:, :2]) * scale + 0.5
        reading = np.stack((scale, shift), axis=2).astype(np.float32)  # x, then y
        table = upload(rows, tiles, device=device)
        with on(device):
            kernels.paint_boxes_kernel[(len(tiles),)](
                *(table[0], torch.from_numpy(reading).to(device, non_blocking=True), table[1]),
                *(pixels, float(threshold)),
                fields=rows.shape[1],
                element=ELEMENTS[framed.dtype],
                size_x=_TILE_XY[0],
                size_y=_TILE_XY[1],
            )
    return list(pixels.split(sizes))


def _planes(masks: Tensor, queries: Ints) -> Ints:
    """n×5: address, strides of row and column, cells and columns of the grid of each query."""
    step, by_row, by_column = masks.stride()
    _, height, width = masks.shape
    rows = np.empty((len(queries), 5), np.int64)
    rows[:, 0] = masks.data_ptr() + masks.element_size() * step * queries
    rows[:, 1:] = by_row, by_column, height * width, width
    return rows


def _pictures(outputs: Sequence[QueryOutput], device: torch.device) -> Ints:
    """B×4: readings of y and of x, height and width of each picture."""
    rows = []
    for output in outputs:
        _, height, width = output.mask_logits.shape
        reading = addresses(kernel_readings(output.frame, (height, width), device))
        rows.append([*reading, *output.frame.picture_hw])
    return np.array(rows, np.int64)


def _places(rectangles: Sequence[Rectangles]) -> Ints:
    """n×6: left, top, width, height, place in the joined buffer and stride of each rectangle."""
    sizes = np.array([each.size for each in rectangles])
    base = np.repeat(np.cumsum(sizes) - sizes, [len(each.offsets) for each in rectangles])
    boxes = np.concatenate([each.boxes_xywh for each in rectangles])
    place = base + np.concatenate([each.offsets for each in rectangles])
    strides = np.concatenate([each.strides for each in rectangles])
    return np.concatenate((boxes, np.stack((place, strides), axis=1)), axis=1)


def _rectangles(
    outputs: Sequence[QueryOutput], planes: Ints, counts: Sequence[int], cut: float, masks: Tensor
) -> list[Rectangles]:
    """What of each picture the masks can reach."""
    device = masks.device
    extent = torch.empty((len(planes), 4), dtype=torch.int64, device=device)
    if len(planes):
        (table,) = upload(planes, device=device)
        with on(device):
            kernels.cells_above[(len(planes),)](
                *(table, extent, cut),
                fields=planes.shape[1],
                element=ELEMENTS[masks.dtype],
                size=_CELLS,
            )
    found = []
    for output, cells in zip(outputs, np.split(fetch(extent), np.cumsum(counts)[:-1]), strict=True):
        _, height, width = output.mask_logits.shape
        boxes = boxes_of_cells(cells, *axes_of(output.frame, (height, width)))
        found.append(place_rectangles(boxes, output.frame.picture_hw[0]))
    return found


def tiles_of(rectangles: Sequence[Rectangles], tile_xy: tuple[int, int]) -> Ints:
    """T×3: number of the mask in the batch, first column and first row of each tile."""
    boxes = np.concatenate([each.boxes_xywh for each in rectangles])
    across = -(-boxes[:, 2] // tile_xy[0])
    down = -(-boxes[:, 3] // tile_xy[1])
    counts = across * down
    mask = np.repeat(np.arange(len(boxes)), counts)
    number = np.arange(len(mask)) - np.repeat(np.cumsum(counts) - counts, counts)
    column, row = np.divmod(number, np.maximum(down, 1)[mask])
    return np.stack((mask, column * tile_xy[0], row * tile_xy[1]), axis=1)
