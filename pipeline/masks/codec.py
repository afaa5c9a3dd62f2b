"""Masks as COCO run-length strings: encode, decode, measure, compare.

Strings are byte-equal to `pycocotools.mask.encode(np.asfortranarray(mask))["counts"]`. Encoding is
our own: pycocotools wants a Fortran-order copy, which costs more than the encoding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as _pycocotools_mask

from . import rle

coco_mask: Any = _pycocotools_mask  # its stubs refuse lists of polygons and of strings

Box = tuple[int, int, int, int]

_ONE = np.zeros(1, np.intp)  # one mask, beginning at 0
_EIGHT = np.arange(8)


@dataclass(frozen=True, slots=True)
class Region:
    """One label's pixels in a label map.

    Attributes:
        label: ≥ 1, the value in the map.
        counts: Compressed RLE of the whole picture's mask.
        area: Pixels, ≥ 1.
        bbox_xywh: Tight box (x, y, width, height), pixels.
    """

    label: int
    counts: bytes
    area: int
    bbox_xywh: Box


def encode(mask: npt.ArrayLike) -> bytes:
    """Writes a mask as a compressed RLE string.

    Args:
        mask: HxW, bool or any integer type, any memory order; every nonzero value is inside.

    Raises:
        ValueError: The mask is not HxW or holds no pixel.
    """
    plane = _plane(mask)
    height, width = plane.shape
    if plane.dtype.itemsize > 1:
        plane = plane != 0
    if not plane.flags.c_contiguous:
        plane = np.ascontiguousarray(plane.T).reshape(-1, 1)
    # Where a pixel differs from the one above, in row order; then as column-major indices.
    # Sorting these few is cheaper than transposing the picture.
    row, column = np.divmod(_changes_downwards(plane), plane.shape[1])
    edges = column * height + row
    if plane.shape[1] > 1:  # a column begins where the one before it ends
        tops = ((plane[0, 1:] != 0) != (plane[-1, :-1] != 0)).nonzero()[0] + 1
        edges = np.concatenate((edges, tops * height))
        edges.sort()
    # Zeros come first: a mask that begins inside begins with a run of no zeros.
    skip = 1 if plane[0, 0] else 0
    counts = np.zeros(skip + len(edges) + 1, np.int64)
    counts[skip:-1] = edges
    counts[-1] = height * width
    counts[skip + 1 :] -= edges
    return rle.compress(counts, _ONE)[0]


def decode(counts: bytes | str, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Reads a compressed RLE string back.

    Returns:
        HxW uint8, C-contiguous, 1 inside and 0 outside.

    Raises:
        ValueError: The string is malformed or belongs to another picture size.
    """
    lengths = rle.expand(counts, height * width)
    value = (np.arange(len(lengths)) & 1).astype(np.uint8)
    return _transpose(np.repeat(value, lengths).reshape(width, height))


def regions(label_map: npt.ArrayLike) -> list[Region]:
    """Every label's string, area and box, from one pass over the picture.

    Args:
        label_map: HxW integers ≥ 0; 0 is no region. Values may have gaps.

    Returns:
        One `Region` a label, ascending.

    Raises:
        ValueError: The map is not HxW of integers, or holds a negative value.
    """
    plane = _plane(label_map)
    if plane.dtype.kind not in "bui":
        raise ValueError(f"a label map holds integers, not {plane.dtype}")
    height, width = plane.shape
    flat = _column_major(plane)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.append(0, edges)
    ends = np.append(edges, height * width)
    labels = flat[starts]
    if labels.dtype.kind == "i" and labels.min() < 0:
        raise ValueError("a label map holds no negative values")
    inside = np.flatnonzero(labels)
    if not len(inside):
        return []
    order = inside[np.argsort(labels[inside], kind="stable")]
    starts, ends, labels = starts[order], ends[order], labels[order]
    first = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
    texts = rle.compress(*rle.counts_of_runs(starts, ends, first, height * width))
    areas = np.add.reduceat(ends - starts, first)
    boxes = rle.boxes_of_runs(starts, ends, first, height)
    return [
        Region(label, text, area, (x, y, w, h))
        for label, text, area, (x, y, w, h) in zip(
            labels[first].tolist(), texts, areas.tolist(), boxes.tolist(), strict=True
        )
    ]


def area(counts: bytes | str, height: int, width: int) -> int:
    """Pixels inside, without decoding.

    Raises:
        ValueError: The string is malformed or belongs to another picture size.
    """
    return int(rle.expand(counts, height * width)[1::2].sum())


def bbox_xywh(counts: bytes | str, height: int, width: int) -> Box:
    """Tight box (x, y, width, height) in pixels, without decoding; zeros for an empty mask.

    Raises:
        ValueError: The string is malformed or belongs to another picture size.
    """
    starts, ends = rle.runs_of_counts(rle.expand(counts, height * width))
    if not len(starts):
        return 0, 0, 0, 0
    x, y, w, h = rle.boxes_of_runs(starts, ends, np.zeros(1, np.int64), height)[0].tolist()
    return x, y, w, h


def from_coco(segmentation: Any, height: int, width: int, *, canonical: bool = True) -> bytes:
    """Reads any COCO `segmentation` of a picture of height × width pixels.

    Args:
        segmentation: A list of polygons [x0, y0, x1, y1, …] or [[x0, y0], …] (their union,
            drawn as pycocotools does), one such polygon alone, an uncompressed RLE
            {"size", "counts": [int, …]} or a compressed one {"size", "counts": str or bytes}.
        canonical: Check and rewrite the string. Otherwise it may hold empty runs, and one that was
            compressed already is returned as it came, malformed or not: for `rle_batch.read_runs`,
            which checks many at once.

    Returns:
        The compressed string, in canonical form without empty runs unless told otherwise.

    Raises:
        ValueError: One line saying what is wrong.
    """
    if isinstance(segmentation, Mapping):
        counts = segmentation.get("counts")
        if not canonical and isinstance(counts, str | bytes):
            _check_size(segmentation, height, width)
            return counts if isinstance(counts, bytes) else counts.encode("utf-8", "replace")
        lengths = _lengths(segmentation, height, width)
    elif isinstance(segmentation, Sequence) and not isinstance(segmentation, str | bytes):
        if not segmentation:
            raise ValueError("segmentation is an empty list of polygons")
        # Some writers leave the outer list out where there is one polygon.
        alone = all(isinstance(item, int | float | str) or _is_point(item) for item in segmentation)
        polygons = [_polygon(item) for item in ([segmentation] if alone else segmentation)]
        merged = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
        if not canonical:
            return merged["counts"]
        lengths = rle.expand(merged["counts"], height * width)
    else:
        raise ValueError(f"segmentation is {type(segmentation).__name__}, neither list nor RLE")
    starts, ends = rle.runs_of_counts(lengths)
    if not len(starts):
        return rle.compress(np.array([height * width]), np.zeros(1, np.intp))[0]
    first = np.zeros(1, np.int64)
    return rle.compress(*rle.counts_of_runs(starts, ends, first, height * width))[0]


def iou(
    a: Sequence[bytes | str],
    b: Sequence[bytes | str],
    height: int,
    width: int,
    iscrowd: Sequence[int] | None = None,
) -> npt.NDArray[np.float64]:
    """Overlap of every mask of `a` with every mask of `b`: intersection over union.

    Args:
        a: Compressed strings (the detections), as `encode` or `from_coco` gives them: pycocotools
            does not check what it reads.
        b: Compressed strings (the ground truth), likewise.
        height: Of the picture all masks belong to, pixels.
        width: Of the same.
        iscrowd: One flag a mask of `b`; against a crowd the divisor is the area of `a`'s mask.

    Returns:
        len(a) × len(b), 0…1.
    """
    if not len(a) or not len(b):
        return np.zeros((len(a), len(b)))
    size = [height, width]
    left, right = ([{"size": size, "counts": text} for text in texts] for texts in (a, b))
    flags = [int(flag) for flag in iscrowd] if iscrowd is not None else [0] * len(b)
    return np.asarray(coco_mask.iou(left, right, flags), np.float64).reshape(len(a), len(b))


def _plane(array: npt.ArrayLike) -> npt.NDArray[Any]:
    plane = np.asarray(array)
    if plane.ndim != 2 or not plane.size:
        raise ValueError(f"expected an HxW array with pixels, got shape {plane.shape}")
    return plane


def _changes_downwards(plane: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Row-order indices of pixels of which either they or the one above is zero, but not both.

    Args:
        plane: HxW of one byte a pixel, C-contiguous.
    """
    width = plane.shape[1]
    flat = plane.reshape(-1).view(np.uint8)
    below, above = flat[width:], flat[:-width]
    eights = len(below) - len(below) % 8  # compared eight pixels at a time, then looked at closely
    words = (below[:eights].view(np.uint64) != above[:eights].view(np.uint64)).nonzero()[0]
    near = (words[:, None] * 8 + _EIGHT).reshape(-1)
    if eights < len(below):
        near = np.concatenate((near, np.arange(eights, len(below))))
    changed = (below.take(near) != 0) != (above.take(near) != 0)
    return near[changed] + width


def _transpose(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # numpy copies a transposed view element by element; OpenCV does it in cache-sized blocks.
    if plane.dtype.itemsize <= 4 and plane.dtype.kind in "ui" and plane.dtype != np.uint32:
        return cv2.transpose(np.ascontiguousarray(plane))
    return np.ascontiguousarray(plane.T)


def _column_major(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if plane.flags.f_contiguous:
        return plane.T.reshape(-1)
    return _transpose(plane).reshape(-1)


def _lengths(code: Mapping[str, Any], height: int, width: int) -> rle.Ints:
    counts = code.get("counts")
    _check_size(code, height, width)
    if isinstance(counts, str | bytes):
        return rle.expand(counts, height * width)
    try:
        lengths = np.array(counts, dtype=np.int64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("RLE counts are neither a string nor a list of integers") from None
    if lengths.ndim != 1 or not len(lengths):
        raise ValueError("RLE counts are neither a string nor a list of integers")
    return rle.check_counts(lengths, height * width)


def _check_size(code: Mapping[str, Any], height: int, width: int) -> None:
    size = code.get("size")
    if not isinstance(size, Sequence) or list(size) not in (
        [height, width],
        [str(height), str(width)],  # out of tools that write every number as text
    ):
        raise ValueError(f"RLE size {size} is not the picture's [{height}, {width}]")


def _is_point(item: Any) -> bool:
    """Whether this is a corner [x, y], which no polygon can be."""
    numbers = isinstance(item, Sequence) and not isinstance(item, str | bytes) and len(item) == 2
    return numbers and all(isinstance(value, int | float) for value in item)


def _polygon(item: Any) -> list[float]:
    try:
        points = np.array(item, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError("a polygon is not a list of numbers") from None
    if points.ndim == 2 and points.shape[1] == 2:
        points = points.reshape(-1)
    if points.ndim != 1 or len(points) < 6 or len(points) % 2:
        raise ValueError(f"a polygon needs an even count of at least 6 numbers, got {points.size}")
    if not (np.abs(points) < 1e6).all():  # also NaN; and far points would cost memory by distance
        raise ValueError("a polygon has a coordinate that is not within ±1,000,000")
    return points.tolist()


# A part of a mask as pixels, without decoding the rest.


def mask_window(
    counts: bytes, height: int, width: int, box_xyxy: tuple[int, int, int, int]
) -> npt.NDArray[np.uint8]:
    """Decodes a box of a mask.

    Args:
        counts: Compressed RLE of the whole picture's mask.
        height: Of the picture, pixels.
        width: Of the same.
        box_xyxy: Left, top, right, bottom in pixels, the last two not included; inside the picture.

    Returns:
        (bottom − top)×(right − left) uint8, 1 inside the mask.

    Raises:
        ValueError: The string is malformed or belongs to another picture size, or the box is empty
            or leaves the picture.
    """
    left, top, right, bottom = box_xyxy
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(f"no box of a {width} × {height} picture: {box_xyxy}")
    ends = np.cumsum(rle.expand(counts, height * width))
    first, last = left * height, right * height  # columns follow one another
    begin, end = np.searchsorted(ends, (first, last), side="right")
    edges = np.concatenate(([first], ends[begin:end], [last])).clip(first, last)
    value = (np.arange(begin, end + 1) & 1).astype(np.uint8)
    columns = np.repeat(value, np.diff(edges)).reshape(right - left, height)
    return np.ascontiguousarray(columns[:, top:bottom].T)
