"""From maps on the device to segments on the host: runs, strings, areas and boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pipeline.masks import rle
from pipeline.models.grids.maps import Ints, LabelMap, MaskStack, Regions, buffer_of
from schemas.records import Segment

from .backend import path_for

_AT_ONCE = 1 << 22
"""Pixels compared with their neighbours at once."""


def segments_of(
    maps: Sequence[LabelMap | MaskStack], *, category_ids: Sequence[int]
) -> list[list[Segment]]:
    """The segments of each map, in the order of what was found.

    On a GPU the strings are written there, for the whole batch, and come back in one copy.

    Args:
        maps: Of one or more pictures, all on one device.
        category_ids: Category id of each of the model's outputs; what is none's (0) is left out.

    Returns:
        One list a map. What has no pixel is no segment. Scores are rounded to 4 decimals.
    """
    if not maps:
        return []
    if path_for(buffer_of(maps[0]).device) == "kernels":
        from pipeline.models.kernels.runs_launch import device_regions

        regions = device_regions(maps)
    else:
        regions = map(host_regions, maps)
    return [
        list(_segments(each, some, category_ids)) for each, some in zip(maps, regions, strict=True)
    ]


def _segments(
    each: LabelMap | MaskStack, regions: Regions, category_ids: Sequence[int]
) -> Iterator[Segment]:
    found = each.found
    planes = np.arange(len(found.labels)) if isinstance(each, LabelMap) else each.planes
    row = np.searchsorted(regions.index, planes)
    row[row == len(regions.index)] = 0
    seen = regions.index[row] == planes if len(regions.index) else np.zeros(len(planes), np.bool_)
    entries = np.flatnonzero(seen)
    at = row[entries]
    agreed: list[float] | list[None] = [None] * len(entries)
    if found.agreement is not None:
        agreed = [round(value, 4) for value in found.agreement[entries].tolist()]
    for label, score, agreement, place, area, box in zip(
        found.labels[entries].tolist(),
        found.scores[entries].tolist(),
        agreed,
        at.tolist(),
        regions.areas[at].tolist(),
        regions.boxes_xywh[at].tolist(),
        strict=True,
    ):
        if category := category_ids[label]:
            yield Segment(
                category,
                regions.texts[place],
                area,
                tuple(box),
                score=round(score, 4),
                tta_agreement=agreement,
            )


def host_regions(each: LabelMap | MaskStack) -> Regions:
    """The regions of a map that have pixels, found on the CPU."""
    flat = buffer_of(each).cpu().numpy()
    starts = _changes(flat)
    values = flat[starts]
    ends = np.append(starts[1:], len(flat))
    inside = np.flatnonzero(values)
    if isinstance(each, LabelMap):
        inside = inside[np.argsort(values[inside], kind="stable")]
        height, width = each.labels.shape
        index = values[inside].astype(np.int64) - 1
        starts, ends = starts[inside], ends[inside]
    else:
        height, width = each.picture_hw
        begin, ends = starts[inside], ends[inside]
        index = np.searchsorted(each.offsets, begin, side="right") - 1
        column, row = np.divmod(begin - each.offsets[index], each.strides[index])
        box = each.boxes_xywh[index]
        starts = (box[:, 0] + column) * height + box[:, 1] + row
        ends = starts + ends - begin
    if not len(starts):
        none = np.zeros(0, np.int64)
        return Regions(none, [], none, none.reshape(0, 4))
    first = np.flatnonzero(np.append(True, index[1:] != index[:-1]))
    return Regions(
        index[first],
        rle.compress(*rle.counts_of_runs(starts, ends, first, height * width)),
        np.add.reduceat(ends - starts, first),
        rle.boxes_of_runs(starts, ends, first, height),
    )


def _changes(flat: npt.NDArray[np.uint8 | np.int16]) -> Ints:
    """Where a value differs from the one before it; the first place counts."""
    found = [np.zeros(min(1, len(flat)), np.int64)]
    for start, stop in pairwise([*range(1, len(flat), _AT_ONCE), len(flat)]):
        found.append(np.flatnonzero(flat[start:stop] != flat[start - 1 : stop - 1]) + start)
    return np.concatenate(found)
