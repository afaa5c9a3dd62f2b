"""COCO's strings written on the device: only finished bytes come back, for a whole batch at once.

The code is that of `pipeline.rle`: runs are found by comparing neighbours, sorted by region, and
turned into lengths of zeros and ones, those (from the fourth on) into differences to the one two
places before, and these into digits of five bits. The host waits three times: for the number of
runs, for the length of the text, and for the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.models.grids.maps import Ints, LabelMap, MaskStack, Regions, buffer_of
from pipeline.models.grids.transfer import fetch, upload

from . import runs
from .dense_launch import on

Bytes = npt.NDArray[np.uint8]

_BLOCK = 256
"""Runs of a program."""

_AT_ONCE = 1 << 30
"""Pixels joined at once, unless one map alone has more."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where everything lies in the joined buffer: p planes that hold s regions in all.

    Attributes:
        planes: 6×p, as `run_regions` wants them.
        pixels: s, of each region's picture.
        heights: s, of the same.
        parts: Regions of each map.
    """

    planes: Ints
    pixels: Ints
    heights: Ints
    parts: list[slice]


def device_regions(maps: Sequence[LabelMap | MaskStack]) -> list[Regions]:
    """The regions of each map that have pixels.

    Args:
        maps: On one device.
    """
    found: list[Regions] = []
    start = size = 0
    for number, each in enumerate(maps):
        more = buffer_of(each).numel()
        if number > start and size + more > _AT_ONCE:
            found += _joined(maps[start:number])
            start, size = number, 0
        size += more
    return found + _joined(maps[start:])


def _joined(maps: Sequence[LabelMap | MaskStack]) -> list[Regions]:
    layout = _laid_out(maps)
    if not len(layout.pixels):
        none = np.zeros(0, np.int64)
        return [Regions(none, [], none, none.reshape(0, 4)) for _ in maps]
    flat = _flat(maps)
    with on(flat.device):
        table, text = _encoded(flat, layout)
    area, left, right, top, bottom, length = table
    top = layout.heights - 1 - top
    boxes = np.stack((left, top, right - left + 1, bottom - top + 1), axis=1)
    ends = np.cumsum(length)
    spans = zip((ends - length).tolist(), ends.tolist(), strict=True)
    texts = [text[start:end].tobytes() for start, end in spans]
    found = []
    for part in layout.parts:
        index = np.flatnonzero(area[part])
        whole = index + part.start
        found.append(
            Regions(index, [texts[at] for at in whole.tolist()], area[whole], boxes[whole])
        )
    return found


def _flat(maps: Sequence[LabelMap | MaskStack]) -> Tensor:
    """All maps with a 0 before, between and behind them, so that no run crosses from one to one."""
    buffers = [buffer_of(each) for each in maps]
    gap = buffers[0].new_zeros(1)
    return torch.cat([gap, *(part for each in buffers for part in (each, gap))])


def _laid_out(maps: Sequence[LabelMap | MaskStack]) -> _Layout:
    planes, pixels, heights, parts = [], [], [], []
    place = region = 0
    for each in maps:
        if isinstance(each, LabelMap):
            height, width = each.labels.shape
            count = len(each.found.labels)
            planes.append(np.array([[place], [height], [0], [0], [height], [region - 1]]))
            place += height * width + 1
        else:
            height, width = each.picture_hw
            count = len(each.offsets)
            left, top = each.boxes_xywh[:, 0], each.boxes_xywh[:, 1]
            tall, first = np.full(count, height), region - 1 + np.arange(count)
            planes.append(np.stack((place + each.offsets, each.strides, left, top, tall, first)))
            place += len(each.pixels) + 1
        pixels.append(np.full(count, height * width))
        heights.append(np.full(count, height))
        parts.append(slice(region, region + count))
        region += count
    return _Layout(
        np.concatenate(planes, axis=1), np.concatenate(pixels), np.concatenate(heights), parts
    )


def _encoded(flat: Tensor, layout: _Layout) -> tuple[Ints, Bytes]:
    """6×s as `run_numbers` has them, and all text."""
    device, none, known = flat.device, len(layout.pixels), layout.planes.shape[1]
    planes, pixels = upload(layout.planes, layout.pixels, device=device)
    # A run begins behind each change; its place is counted without the 0 before the first map.
    places = (flat[1:] != flat[:-1]).nonzero()[:, 0]
    count = len(places)
    if not count:
        return np.zeros((6, none), np.int64), np.zeros(0, np.uint8)
    blocks = (-(-count // _BLOCK),)
    regions, plane_of = torch.empty((2, count), dtype=torch.int32, device=device)
    runs.run_regions[blocks](
        *(flat[1:], places, count, planes, known, known.bit_length(), none, regions, plane_of),
        size=_BLOCK,
    )
    # Runs of zeros are sorted behind all regions.
    regions, order = regions.sort(stable=True)
    first = torch.searchsorted(regions, _numbers(none + 1, device))
    values = torch.empty((count + none, 2), dtype=torch.int64, device=device)
    # Per entry its digits, then per region its area and so on: what has to begin as 0.
    zeroed = torch.zeros(count + 7 * none, dtype=torch.int32, device=device)
    sizes, table = zeroed[: count + none], zeroed[count + none :]
    runs.run_numbers[blocks](
        *(places, plane_of, count, len(flat) - 1, planes, known, regions, order, first, none),
        *(pixels, values, sizes, table),
        size=_BLOCK,
    )
    ends = sizes.cumsum(0)
    text = torch.empty(int(ends[-1]), dtype=torch.uint8, device=device)
    runs.run_text[(-(-len(sizes) // _BLOCK),)](
        *(values, sizes, ends, len(sizes), text), size=_BLOCK
    )
    data = fetch(torch.cat((table.view(torch.uint8), text)))
    split = 4 * 6 * none
    return data[:split].view(np.int32).reshape(6, none).astype(np.int64), data[split:]


@lru_cache(maxsize=16)
def _numbers(count: int, device: torch.device) -> Tensor:
    """0…count−1; kept, since batches of one job have as many regions."""
    return torch.arange(count, dtype=torch.int32, device=device)
