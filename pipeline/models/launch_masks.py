"""Runs the kernels that paint masks inside rectangles: instances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from . import kernels
from .cell_scores import from_units, units
from .launch import ELEMENTS, addresses, on, readings, ready, upload
from .maps import Floats, Ints
from .outputs import BoxOutput, QueryOutput
from .painted import Painted
from .rectangles import Rectangles, boxes_of_cells, lay_out

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
    planes = [
        [each[int(query)] for query in some] for each, some in zip(masks, queries, strict=True)
    ]
    rectangles = _rectangles(outputs, planes, cut, device)
    rows = []
    base = 0
    for output, some, each in zip(outputs, planes, rectangles, strict=True):
        for plane, box, place, stride in zip(
            some,
            each.boxes_xywh.tolist(),
            each.offsets.tolist(),
            each.strides.tolist(),
            strict=True,
        ):
            reading = addresses(readings(output.frame, (plane.shape[0], plane.shape[1]), device))
            head = [plane.data_ptr(), *plane.stride(), *reading, *output.frame.picture_hw]
            rows.append([*head, *box, base + place, stride])
        base += each.size
    pixels = torch.zeros(base, dtype=torch.uint8, device=device)
    count = len(rows)
    totals = torch.zeros((2, count), dtype=torch.int64, device=device)
    tiles = _tiles(rectangles)
    if len(tiles):
        table = upload(np.array(rows), tiles, device=device)
        areas = torch.empty(len(tiles), dtype=torch.int32, device=device)
        sums = torch.empty(len(tiles), dtype=torch.float32, device=device)
        with on(device):
            kernels.paint_masks[(len(tiles),)](
                *table,
                pixels,
                areas,
                sums,
                cut,
                fields=len(rows[0]),
                element=ELEMENTS[masks[0].dtype],
                size_x=_TILE_XY[0],
                size_y=_TILE_XY[1],
            )
        totals.index_add_(1, table[1].view(-1, 3)[:, 0], torch.stack((areas.long(), units(sums))))
    whole = totals.cpu().numpy()
    return [
        Painted(each, part, area, from_units(total))
        for each, part, area, total in zip(
            rectangles,
            pixels.split([each.size for each in rectangles]),
            *(np.split(row, np.cumsum([len(some) for some in queries])[:-1]) for row in whole),
            strict=True,
        )
    ]


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
    tiles = _tiles(rectangles)
    if len(tiles):
        base = np.repeat(np.cumsum(sizes) - sizes, [len(each.offsets) for each in rectangles])
        where = np.concatenate([each.boxes_xywh for each in rectangles])
        place = base + np.concatenate([each.offsets for each in rectangles])
        strides = np.concatenate([each.strides for each in rectangles])
        step = framed.stride(0) * framed.element_size()
        address: Ints = framed.data_ptr() + step * np.arange(len(where))
        side = np.full(len(where), cells)
        rows: Ints = np.stack((address, side, where[:, 2], where[:, 3], place, strides), axis=1)
        boxes = np.concatenate(boxes_xyxy)
        scale = cells / np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
        shift = (where[:, :2] + 0.5 - boxes[:, :2]) * scale + 0.5
        reading = np.stack((scale, shift), axis=2).astype(np.float32)  # x, then y
        table = upload(rows, tiles, device=device)
        with on(device):
            kernels.paint_boxes[(len(tiles),)](
                table[0],
                torch.from_numpy(reading).to(device),
                table[1],
                pixels,
                float(threshold),
                fields=rows.shape[1],
                element=ELEMENTS[framed.dtype],
                size_x=_TILE_XY[0],
                size_y=_TILE_XY[1],
            )
    return list(pixels.split(sizes))


def _rectangles(
    outputs: Sequence[QueryOutput],
    planes: Sequence[Sequence[Tensor]],
    cut: float,
    device: torch.device,
) -> list[Rectangles]:
    """What of each picture the masks can reach."""
    rows = [
        [plane.data_ptr(), *plane.stride(), plane.numel(), plane.shape[1]]
        for some in planes
        for plane in some
    ]
    extent = torch.empty((len(rows), 4), dtype=torch.int64, device=device)
    if rows:
        element = ELEMENTS[planes[[len(some) > 0 for some in planes].index(True)][0].dtype]
        table = upload(np.array(rows), device=device)
        with on(device):
            kernels.cells_above[(len(rows),)](
                table[0], extent, cut, fields=len(rows[0]), element=element, size=_CELLS
            )
    parts = np.split(extent.cpu().numpy(), np.cumsum([len(some) for some in planes])[:-1])
    found = []
    for output, cells in zip(outputs, parts, strict=True):
        _, height, width = output.mask_logits.shape
        boxes = boxes_of_cells(cells, *output.frame.axes((height, width)))
        found.append(lay_out(boxes, output.frame.picture_hw[0]))
    return found


def _tiles(rectangles: Sequence[Rectangles]) -> Ints:
    """T×3: number of the mask in the batch, first column and first row of each tile."""
    boxes = np.concatenate([each.boxes_xywh for each in rectangles])
    across = -(-boxes[:, 2] // _TILE_XY[0])
    down = -(-boxes[:, 3] // _TILE_XY[1])
    counts = across * down
    mask = np.repeat(np.arange(len(boxes)), counts)
    number = np.arange(len(mask)) - np.repeat(np.cumsum(counts) - counts, counts)
    column, row = np.divmod(number, np.maximum(down, 1)[mask])
    return np.stack((mask, column * _TILE_XY[0], row * _TILE_XY[1]), axis=1)
