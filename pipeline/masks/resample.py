"""From a resized picture's pixels back to the original's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from schemas.records import Evidence, Placement, Segmentation

from . import rle
from .column_runs import ColumnRuns, Ints, merge_runs, ranges, read_column_runs
from .rle_writer import RleWriter


def to_original(found: Segmentation, placement: Placement | None) -> Segmentation:
    """What was found in a resized picture, in the original's pixels.

    Each pixel of the original takes the value of the pixel that its centre lies in. Segments that
    no centre lies in are dropped.

    Args:
        found: Masks of size `placement.input_hw`.
        placement: None = the picture was not resized.

    Raises:
        ValueError: The masks have another size, or one is malformed.
    """
    if placement is None:
        return found
    height, width = placement.picture_hw
    if found.failure is not None:
        return Segmentation(height, width, failure=found.failure)
    if (found.height, found.width) != placement.input_hw:
        raise ValueError(
            f"the model gave masks of {found.height} × {found.width} for a picture of "
            f"{placement.input_hw[0]} × {placement.input_hw[1]} pixels"
        )
    runs = read_column_runs([one.counts for one in found.segments], *placement.input_hw)
    rows, columns = (
        _sources(pixels, content, start)
        for pixels, content, start in zip(
            placement.picture_hw, placement.content_hw, placement.offset_yx, strict=True
        )
    )
    writer = RleWriter(len(found.segments), height, width)
    writer.write(*merge_runs(_resampled(runs, rows, columns), height))
    segments = []
    for region in writer.finish():
        old = found.segments[region.label - 1]
        new = replace(old, counts=region.counts, area=region.area, bbox_xywh=region.bbox_xywh)
        if old.evidence is not None:
            new = replace(new, evidence=_evidence(old.evidence, placement))
        segments.append(new)
    return Segmentation(height, width, tuple(segments))


def _resampled(runs: ColumnRuns, rows: Ints, columns: Ints) -> ColumnRuns:
    """Runs of masks whose pixel (y, x) is pixel (rows[y], columns[x]); both never descend."""
    runs = ColumnRuns(
        runs.mask, runs.x, np.searchsorted(rows, runs.top), np.searchsorted(rows, runs.bottom)
    )
    runs = runs.take(runs.top < runs.bottom)
    again, column = ranges(np.searchsorted(columns, runs.x), np.searchsorted(columns, runs.x + 1))
    return ColumnRuns(runs.mask[again], column, runs.top[again], runs.bottom[again])


def _sources(pixels: int, content: int, start: int) -> Ints:
    """For each pixel along a side, the pixel of the resized picture that its centre lies in."""
    return (2 * np.arange(pixels, dtype=np.int64) + 1) * content // (2 * pixels) + start


def _evidence(evidence: Evidence, placement: Placement) -> Evidence:
    """Points and boxes, whose coordinates are edges of pixels at whole numbers."""
    (height, width), (tall, wide) = placement.picture_hw, placement.content_hw
    top, left = placement.offset_yx

    def x(value: float) -> float:
        return (value - left) * width / wide

    def y(value: float) -> float:
        return (value - top) * height / tall

    changed = {}
    if evidence.point_xy is not None:
        changed["point_xy"] = x(evidence.point_xy[0]), y(evidence.point_xy[1])
    if evidence.prompt_bbox_xywh is not None:
        across, down, w, h = evidence.prompt_bbox_xywh
        changed["prompt_bbox_xywh"] = x(across), y(down), w * width / wide, h * height / tall
    if evidence.crop_xywh is not None:
        across, down, w, h = evidence.crop_xywh
        ends = [
            (round(min(max(a, 0), limit)), round(min(max(b, 0), limit)))
            for a, b, limit in (
                (x(across), x(across + w), width),
                (y(down), y(down + h), height),
            )
        ]
        (x0, x1), (y0, y1) = ends
        changed["crop_xywh"] = x0, y0, x1 - x0, y1 - y0
    return replace(evidence, **changed)


# Masks at thumbnail size, straight from run lengths: no mask is ever drawn.

Size = tuple[int, int]


def shrink(texts: Sequence[str], size_hw: Size, small_hw: Size) -> list[bytes | None]:
    """Samples masks at every so-many-th row and column (nearest neighbour, pixel centres).

    Where a mask's value changes, the sampled mask's value changes at the next sampled pixel in
    column-major order; changes that meet at one pixel cancel in pairs. So the cost follows the
    number of runs, not of pixels, and all masks of a picture are done together.

    Args:
        texts: Compressed run-length strings.
        size_hw: Their height and width, pixels.
        small_hw: Height and width wanted, not larger.

    Returns:
        One compressed string a mask, None where no sampled pixel is inside.

    Raises:
        ValueError: A string is malformed, or a side would grow.
    """
    (height, width), (rows, columns) = size_hw, small_hw
    if not (0 < rows <= height and 0 < columns <= width):
        raise ValueError(f"cannot shrink {size_hw} to {small_hw}")
    if not texts:
        return []
    pixels = rows * columns
    stride = pixels + 1  # one number line for all masks, an interval each
    row_rank, column_rank = _rank(height, rows), _rank(width, columns)
    changes = []
    for index, text in enumerate(texts):
        column, row = np.divmod(np.cumsum(rle.expand(text, height * width))[:-1], height)
        sampled = column_rank[np.minimum(column + 1, width)] > column_rank[column]
        place = column_rank[column] * rows + np.where(sampled, row_rank[row], 0)
        changes.append(place + index * stride)
    place, times = np.unique(np.concatenate(changes), return_counts=True)
    place = place[(times % 2 == 1) & (place % stride < pixels)]
    mask_of = place // stride
    kept = np.unique(mask_of)
    bounds = np.concatenate((place, kept * stride, kept * stride + pixels))
    bounds.sort()
    per_mask = np.bincount(mask_of, minlength=len(texts))[kept] + 2
    ends = np.cumsum(per_mask) - 1
    lengths = np.delete(np.diff(bounds), ends[:-1])
    offset = np.concatenate(([0], np.cumsum(per_mask - 1)[:-1])).astype(np.intp)
    small: list[bytes | None] = [None] * len(texts)
    if len(kept):
        for index, text in zip(kept.tolist(), rle.compress(lengths, offset), strict=True):
            small[index] = text
    return small


def fit(size_hw: Size, side: int) -> Size:
    """Height and width with the longer side at most `side`, never enlarged, never 0."""
    scale = min(1.0, side / max(size_hw))
    height, width = (max(1, round(length * scale)) for length in size_hw)
    return height, width


def _rank(length: int, samples: int) -> rle.Ints:
    """How many sampled places lie before each of 0…length."""
    places = (2 * np.arange(samples) + 1) * length // (2 * samples)
    return np.searchsorted(places, np.arange(length + 1))
