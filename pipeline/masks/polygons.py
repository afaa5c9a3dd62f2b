"""Polygons: a mask's outlines along the edges of its pixels, and one ring from many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from .codec import mask_window

Ring = npt.NDArray[np.int32]
"""n×2 corners (x, y) of pixels, n ≥ 4 unless simplified; the last is not the first again."""


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """One connected part of a mask.

    Attributes:
        outer: Its outline.
        holes: Outlines of what it encloses, in the order they are met.
    """

    outer: Ring
    holes: tuple[Ring, ...] = ()


def components_of(
    counts: bytes | str,
    height: int,
    width: int,
    bbox_xywh: Sequence[int],
    *,
    tolerance: float = 0.0,
    connectivity: Literal[4, 8] = 8,
) -> list[Component]:
    """Every part of a mask, with its holes.

    Coordinates are those of pixel edges, as COCO means them: the pixel in column x and row y is
    the square from (x, y) to (x + 1, y + 1), and a single pixel has that square. Drawn by
    pycocotools, the polygons of tolerance 0 give the mask back to the pixel.

    Args:
        counts: Compressed RLE of the whole picture's mask.
        height: Of the picture, pixels.
        width: Of the same.
        bbox_xywh: The mask's tight box.
        tolerance: Pixels that a simplified ring may lie off the true one (Douglas, Peucker 1973,
            as `cv2.approxPolyDP`). A ring that would collapse stays as it is.
        connectivity: 8: pixels that touch at a corner are one part, whose outline may pass a corner
            twice. 4: they are two; with tolerance 0 every part is then a valid polygon of OGC's
            simple features: rings are simple and its inside is connected.

    Raises:
        ValueError: The RLE is malformed or of another picture, or the box leaves the picture.
    """
    x, y, w, h = bbox_xywh
    text = counts.encode() if isinstance(counts, str) else counts
    window = mask_window(text, height, width, (x, y, x + w, y + h))
    if connectivity == 8:
        return _traced(window, x, y, tolerance)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(window, connectivity=4)
    if count == 2:
        return _traced(window, x, y, tolerance)
    found: list[Component] = []
    for label in range(1, count):
        left, top, across, down = stats[label, :4].tolist()
        own = labels[top : top + down, left : left + across] == label
        found += _traced(own.astype(np.uint8), x + left, y + top, tolerance)
    return found


def _traced(window: npt.NDArray[np.uint8], x: int, y: int, tolerance: float) -> list[Component]:
    """The 8-connected parts of a mask whose top left pixel is (x, y) of the picture."""
    # OpenCV follows the centres of border pixels. In the picture doubled, pixel x has the centres
    # 2x and 2x + 1, which (c + 1) // 2 takes to its edges x and x + 1; around holes the border
    # pixels are those outside the hole, and the same rule gives the hole's own edges.
    double: Any = cv2.resize(
        window, (2 * window.shape[1], 2 * window.shape[0]), interpolation=cv2.INTER_NEAREST
    )
    found: Any = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings, family = found
    corner = np.array((x, y), np.int32)
    edges = [_simplified(_corners(ring) + corner, tolerance) for ring in rings]
    holes: dict[int, list[Ring]] = {}
    outers: list[int] = []
    for index, ring in enumerate(edges):
        parent = int(family[0, index, 3])
        if parent < 0:
            outers.append(index)
        else:
            holes.setdefault(parent, []).append(ring)
    return [Component(edges[index], tuple(holes.get(index, ()))) for index in outers]


def bridged(rings: Sequence[Ring]) -> Ring:
    """One ring from several: each is joined to those before by a bridge that is walked twice.

    Filled by the even-odd rule, as pycocotools and OpenCV fill, the bridges cancel out: holes stay
    open, and separate parts stay whole.

    Args:
        rings: At least one.
    """
    whole = rings[0]
    for ring in rings[1:]:
        start = int(np.argmin(ring[:, 0]))
        distance = ((whole - ring[start]).astype(np.int64) ** 2).sum(axis=1)
        at = int(np.argmin(distance))
        turned = np.roll(ring, -start, axis=0)
        whole = np.concatenate((whole[: at + 1], turned, turned[:1], whole[at:]))
    return whole


def signed_area(ring: Ring) -> float:
    """Area of a ring by the shoelace formula; its sign is that of the direction.

    Positive where x → y turns the short way round: counter-clockwise with y upwards, clockwise on
    a screen.
    """
    x, y = ring[:, 0].astype(np.float64), ring[:, 1].astype(np.float64)
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _corners(contour: npt.NDArray[np.int32]) -> Ring:
    """A contour of the doubled picture as corners of pixels, without those on straight lines."""
    ring = (contour[:, 0] + 1) // 2
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    return ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


def _simplified(ring: Ring, tolerance: float) -> Ring:
    if not tolerance:
        return ring
    fewer = np.asarray(cv2.approxPolyDP(ring[:, None], tolerance, True)[:, 0], np.int32)
    return fewer if len(fewer) >= 3 and signed_area(fewer) else ring
