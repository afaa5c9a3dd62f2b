"""Small pictures to compare: random label maps, and segments made from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from pipeline.evaluation.metrics.overlay import ComparedImage, Comparison, overlay
from pipeline.evaluation.metrics.stack import Stack, stack
from pipeline.evaluation.metrics.views import Perspective
from pipeline.evaluation.sources.source import Segments, make_segments, segments_of_map
from pipeline.masks import codec


@st.composite
def pairs_of_maps(draw: st.DrawFn, most: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Two label maps of one size; the second is often close to the first."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    block = draw(st.integers(1, 4))
    coarse = rng.integers(0, most + 1, (9, 9)).repeat(block, 0).repeat(block, 1)
    first = coarse[:height, :width]
    changed = rng.random((height, width)) < draw(st.sampled_from([0.0, 0.2, 1.0]))
    return first, np.where(changed, rng.integers(0, most + 1, (height, width)), first)


def of_masks(found: Sequence[np.ndarray], ids: Sequence[int] | None = None, **more) -> Segments:
    """Segments of HxW masks, which may overlap; category 1 unless `ids` says otherwise."""
    height, width = found[0].shape
    counts = [codec.encode(mask) for mask in found]
    return make_segments(height, width, counts, ids or [1] * len(counts), **more)


def box(x: int, y: int, w: int, h: int, *, size: tuple[int, int] = (20, 20)) -> np.ndarray:
    """A mask with one rectangle."""
    mask = np.zeros(size, np.uint8)
    mask[y : y + h, x : x + w] = 1
    return mask


def compared(*sides: Segments) -> Comparison:
    """Images laid over each other: truth, prediction, truth, prediction …"""
    pairs = list(zip(sides[::2], sides[1::2], strict=True))
    images = [
        ComparedImage(number, f"picture {number}", truth.height, truth.width)
        for number, (truth, _) in enumerate(pairs, start=1)
    ]
    names = [image.name for image in images]
    truth, predicted = (stack([pair[side] for pair in pairs], names) for side in (0, 1))
    return overlay(images, truth, predicted)


def objects(label_map: np.ndarray, categories: int = 1) -> Segments:
    """Segments of a label map; categories 1…n take turns."""
    values = range(1, int(label_map.max(initial=0)) + 1)
    return segments_of_map(label_map, {value: (value - 1) % categories + 1 for value in values})


def pixels_of(
    side: Stack, sizes: Sequence[tuple[int, int]], values: Sequence[int] | None = None
) -> list[np.ndarray]:
    """The images painted with `values`, or with category ids; later segments lie on top."""
    line = np.zeros(side.offset[-1], np.int64)
    for owner, start, end in zip(side.owner, side.starts, side.ends, strict=True):
        line[start:end] = (side.category_ids if values is None else values)[owner]
    parts = np.split(line, side.offset[1:-1]) if sizes else []
    return [part.reshape(w, h).T for part, (h, w) in zip(parts, sizes, strict=True)]


def compared_in(view: Perspective, truth: Segments, predicted: Segments) -> Comparison:
    """One image in a view."""
    plain = compared(truth, predicted)
    return overlay(plain.images, view.truth(plain.truth), view.predicted(plain.predicted))
