"""Checks what annotation rows say of their masks: size, RLE, area, box, overlap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.masks.rle import read_runs

from .findings import Findings
from .rows import image_rows

compute: Any = pc  # its functions are made at import time, out of a type checker's sight

_TEXT_BYTES = 1 << 20
_MAX_PIXELS = 1 << 40


def check_masks(images: pa.Table, annotations: pa.Table, findings: Findings) -> None:
    """Reads every mask of a part, some images at a time.

    Args:
        images: The part's image rows.
        annotations: Its annotation rows.
        findings: Takes what is wrong.
    """
    rows = image_rows(images["image_id"].to_numpy(), annotations["image_id"].to_numpy())
    size = [
        np.append(images[key].fill_null(0).to_numpy().astype(np.int64), 0)[rows]
        for key in ("height", "width")
    ]
    for begin, end in _slices(annotations):
        piece = annotations.slice(begin, end - begin).combine_chunks()
        height, width = (values[begin:end] for values in size)
        _check(piece, height, width, findings)


def _check(
    annotations: pa.Table,
    height: npt.NDArray[np.int64],
    width: npt.NDArray[np.int64],
    findings: Findings,
) -> None:
    ids = annotations["annotation_id"].to_numpy()

    def flag(rule: str, wrong: npt.NDArray[np.bool_]) -> None:
        findings.add(rule, "annotation", ids[wrong].tolist())

    rle = annotations["rle"].combine_chunks()
    said = rle.field("size").flatten().to_numpy().reshape(-1, 2).astype(np.int64)
    sized = (said[:, 0] == height) & (said[:, 1] == width)
    flag("mask-size", ~sized)
    # A mask is read in the size that it states, so that one mistake is not reported as two.
    pixels = said.prod(axis=1)
    usable = (said > 0).all(axis=1) & (pixels < _MAX_PIXELS)
    texts = compute.fill_null(rle.field("counts"), "")
    runs = read_runs(texts, np.where(usable, pixels, 0))
    area = runs.areas()
    readable = runs.wellformed & (area > 0)
    flag("mask-rle", ~readable)
    flag("mask-canonical", readable & ~runs.canonical)
    flag("mask-area", readable & (area != annotations["area"].to_numpy()))
    boxes = annotations["bbox_xywh"].combine_chunks().flatten().to_numpy().reshape(-1, 4)
    tight = runs.boxes_xywh(np.maximum(said[:, 0], 1))
    flag("mask-box", readable & (boxes != tight).any(axis=1))
    group = _disjoint_groups(annotations)
    if group is not None:
        stride = int(pixels[readable].max(initial=0)) + 1
        flag("mask-overlap", runs.overlapping(group, stride))


def _disjoint_groups(annotations: pa.Table) -> npt.NDArray[np.int64] | None:
    """A number for each segment; segments of one number must not overlap. None: all may.

    The segments of an image and a task share a number; an instance has one for itself.
    """
    task = compute.dictionary_encode(annotations["task"].combine_chunks())
    names, code = task.dictionary.to_pylist(), task.indices.to_numpy().astype(np.int64)
    if set(names) <= {"instance"}:
        return None
    _, picture = np.unique(annotations["image_id"].to_numpy(), return_inverse=True)
    group = picture.astype(np.int64) * len(names) + code
    if "instance" in names:
        alone = np.flatnonzero(code == names.index("instance"))
        group[alone] = group.max() + 1 + np.arange(len(alone))
    return group


def _slices(annotations: pa.Table) -> Iterator[tuple[int, int]]:
    """Row ranges of bounded text that do not cut an image in two."""
    if not len(annotations):
        return
    image = annotations["image_id"].to_numpy()
    ends = np.append(np.flatnonzero(image[1:] != image[:-1]) + 1, len(image))
    counts = compute.struct_field(annotations["rle"], "counts")
    text = np.append(0, np.cumsum(compute.fill_null(compute.binary_length(counts), 0).to_numpy()))
    begin = 0
    while begin < len(image):
        fits = np.searchsorted(text[ends], text[begin] + _TEXT_BYTES, "right")
        fits = max(int(fits), int(np.searchsorted(ends, begin, "right")) + 1)
        end = int(ends[min(fits, len(ends)) - 1])
        yield begin, end
        begin = end
