"""Everything about the shape of many masks, column by column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.masks.column_runs import Canvas, Floats, Ints, MaskRuns, canvas_of_runs

from .hull import measure_hulls

# Area, centroid and the ellipse with a mask's second moments, from its runs.
#
# Definitions are those of scikit-image's `regionprops`: the inertia tensor of Bernd Jähne, "Spatio-
# Temporal Image Processing" (1993), without a term for the pixels' own extent.


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """n values each, in pixels and radians.

    Attributes:
        area: Pixels.
        centroid_y: Mean row.
        centroid_x: Mean column.
        axis_major_length: Of the ellipse that has the mask's second central moments.
        axis_minor_length: Likewise.
        orientation: From the row axis to the major axis, −π/2…π/2, counter-clockwise on a screen.
        eccentricity: Of that ellipse, 0 (circle) … 1 (line).
    """

    area: Ints
    centroid_y: Floats
    centroid_x: Floats
    axis_major_length: Floats
    axis_minor_length: Floats
    orientation: Floats
    eccentricity: Floats


def measure_moments(runs: MaskRuns) -> Moments:
    """Sums are exact: integers, and around the pixel next to each centroid."""
    length = runs.lengths()
    area = runs.total(length)
    centroid_y = runs.total(length * (runs.top + runs.bottom - 1) // 2) / area
    centroid_x = runs.total(length * runs.column) / area
    y, x = np.rint(centroid_y).astype(np.int64), np.rint(centroid_x).astype(np.int64)
    top, bottom = runs.top - y[runs.owner], runs.bottom - y[runs.owner]
    across = runs.column - x[runs.owner]
    rows = (bottom * (bottom - 1) - top * (top - 1)) // 2  # Σ y over the run
    mean_y, mean_x = runs.total(rows) / area, runs.total(length * across) / area
    # Variances and covariance of the pixels' coordinates.
    yy = runs.total(_squares(bottom) - _squares(top)) / area - mean_y * mean_y
    xx = runs.total(length * across * across) / area - mean_x * mean_x
    xy = runs.total(rows * across) / area - mean_y * mean_x
    mean, spread = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
    major, minor = mean + spread, np.maximum(mean - spread, 0)
    diagonal = np.where(xy > 0, np.pi / 4, -np.pi / 4)  # what skimage says of a round mask
    with np.errstate(invalid="ignore"):
        eccentricity = np.sqrt(1 - np.where(major > 0, minor / major, 1))
    return Moments(
        area=area,
        centroid_y=centroid_y,
        centroid_x=centroid_x,
        axis_major_length=4 * np.sqrt(major),
        axis_minor_length=4 * np.sqrt(minor),
        orientation=np.where(yy == xx, diagonal, np.arctan2(2 * xy, yy - xx) / 2),
        eccentricity=eccentricity,
    )


def _squares(n: Ints) -> Ints:
    """Σ k² for k < n, as the polynomial that also serves negative n."""
    return (n - 1) * n * (2 * n - 1) // 6


# Perimeters and Euler number from runs, without painting a mask.
#
# Every measure here is a sum of weights over small windows of pixels. Windows that lie inside a run
# or outside the mask weigh nothing or all the same, so only the ends of runs are looked at.

_PIECES = np.zeros(50)
_PIECES[[5, 7, 15, 17, 25, 27]] = 1
_PIECES[[21, 33]] = np.sqrt(2)
_PIECES[[13, 23]] = (1 + np.sqrt(2)) / 2
"""Length of outline that a border pixel stands for, by 1 + 2·(border pixels beside it) + 10·(those
at its corners). K. Benkrid and D. Crookes, "Design and FPGA implementation of a perimeter
estimator" (2000); the weights of `skimage.measure.perimeter`."""

_D = np.pi / (4 * np.sqrt(2))
_Q = np.pi / 4
_CROFTON = np.array(
    [0, _Q + _D, _D, 2 * _D, 0, _Q + _D, 0, _D, _Q, 2 * _Q, _D, _D, _Q, 2 * _Q, 0, 0]
)
"""Weight of a 2×2 window for Crofton's formula in four directions; a window's code is 8·upper left
+ 4·lower left + 2·upper right + lower right. S. Rivollier, thesis, École des Mines de Saint-Étienne
(2010); the weights of `skimage.measure.perimeter_crofton`."""

_EULER = np.array([0, 0, 0, 0, 0, 0, -1, 0, 1, 0, 0, 0, 0, 0, -1, 0])
"""The same for the Euler number with eight neighbours. J. Ohser, W. Nagel, K. Schladitz, "The Euler
number of discretized sets" (2002)."""

_STEP = np.array([4, -4, 1, -1])


def measure_perimeter(runs: MaskRuns, canvas: Canvas) -> Floats:
    """Length of the line through the border pixels' centres, holes included; n values, pixels.

    A border pixel is one with a pixel outside the mask above, below or beside it. Pixels at the
    picture's edge are border pixels.
    """
    inner, outer = _interior(runs, canvas)
    # Inside an own run, and never at its ends: border and interior take turns.
    edges = np.sort(np.concatenate((canvas.starts, inner, outer, canvas.ends)))
    begins, stops = edges[0::2], edges[1::2]
    number = stops - begins
    before = np.cumsum(number) - number
    pixel = np.arange(number.sum()) + np.repeat(begins - before, number)
    owner = np.repeat(np.searchsorted(canvas.base, begins, side="right") - 1, number)

    beside, corner = np.zeros(len(pixel), np.int64), np.zeros(len(pixel), np.int64)
    below = pixel[1:] == pixel[:-1] + 1
    beside[:-1] += below
    beside[1:] += below
    right = pixel + canvas.stride[owner]
    place = np.searchsorted(pixel, right)
    padded = np.append(pixel, (-9, -9))  # no pixel's neighbour; also what index −1 finds
    hit = padded[place] == right
    for counts, at, key in (
        (beside, place, right),
        (corner, place - 1, right - 1),
        (corner, place + hit, right + 1),
    ):
        found = np.flatnonzero(padded[at] == key)
        counts[found] += 1
        counts[at[found]] += 1
    weights = _PIECES[1 + 2 * beside + 10 * corner]
    return _sums(owner, weights, len(runs))


def measure_windows(runs: MaskRuns, canvas: Canvas) -> tuple[Floats, Ints]:
    """Crofton perimeter in pixels and Euler number (parts − holes); n values each."""
    stride = canvas.stride[runs.owner]
    # A window lies across two columns; each column is the left one of a pair and the right one of
    # another. `code` after an event says which of the pair's pixels below it are inside.
    events = np.concatenate(
        (
            canvas.starts * 4,
            canvas.ends * 4 + 1,
            (canvas.starts - stride) * 4 + 2,
            (canvas.ends - stride) * 4 + 3,
        )
    )
    events.sort()
    key = events >> 2
    code = np.cumsum(_STEP[events & 3])
    last = np.append(key[1:] != key[:-1], True)
    key, code = key[last], code[last]
    owner = np.searchsorted(canvas.base, key, side="right") - 1
    window = code.copy()
    window[1:] += 2 * code[:-1]
    plain = np.where(code[:-1] > 0, key[1:] - key[:-1] - 1, 0)  # windows that no event touches
    crofton = _CROFTON[window]
    crofton[:-1] += plain * _CROFTON[3 * code[:-1]]
    n = len(runs)
    return _sums(owner, crofton, n), _sums(owner, _EULER[window], n).astype(np.int64)


def _sums(owner: Ints, weights: np.ndarray, n: int) -> Floats:
    return np.bincount(owner, weights=weights, minlength=n).astype(np.float64, copy=False)


def _interior(runs: MaskRuns, canvas: Canvas) -> tuple[Ints, Ints]:
    """First keys, and keys one past the last, of stretches of pixels with all four neighbours."""
    stride = canvas.stride[runs.owner]
    thick = canvas.ends - canvas.starts > 2
    events = np.concatenate(
        (
            canvas.starts[thick] + 1,
            canvas.starts + stride,
            canvas.starts - stride,
            canvas.ends[thick] - 1,
            canvas.ends + stride,
            canvas.ends - stride,
        )
    )
    events *= 2
    events[len(events) // 2 :] += 1
    events.sort()
    key = events >> 1
    depth = np.cumsum(1 - 2 * (events & 1))
    last = np.append(key[1:] != key[:-1], True)
    key, depth = key[last], depth[last]
    full = np.flatnonzero(depth == 3)
    return key[full], key[full + 1]


def measure_shapes(runs: MaskRuns) -> dict[str, np.ndarray]:
    """Measures n masks.

    Args:
        runs: Of the masks.

    Returns:
        Column of `schemas.measurements.OBJECTS` → n values, pixels and radians; `circularity` is
        NaN where the perimeter is 0. Equal to scikit-image's `regionprops`, where it has the
        property.
    """
    canvas = canvas_of_runs(runs)
    moments, hulls = measure_moments(runs), measure_hulls(runs)
    perimeter = measure_perimeter(runs, canvas)
    crofton, euler = measure_windows(runs, canvas)
    x, y, w, h = runs.boxes_xywh().T
    area = moments.area
    with np.errstate(divide="ignore"):
        circularity = np.where(perimeter > 0, 4 * np.pi * area / perimeter**2, np.nan)
    columns: dict[str, Any] = {
        "area": area,
        "bbox_xywh": np.stack((x, y, w, h), axis=1),
        "touches_border": (x == 0) | (y == 0) | (x + w == runs.widths) | (y + h == runs.heights),
        "centroid_y": moments.centroid_y,
        "centroid_x": moments.centroid_x,
        "equivalent_diameter": np.sqrt(4 * area / np.pi),
        "perimeter": perimeter,
        "perimeter_crofton": crofton,
        "axis_major_length": moments.axis_major_length,
        "axis_minor_length": moments.axis_minor_length,
        "orientation": moments.orientation,
        "eccentricity": moments.eccentricity,
        "area_convex": hulls.area_convex,
        "solidity": area / hulls.area_convex,
        "extent": area / (w * h),
        "circularity": circularity,
        "feret_diameter_max": hulls.feret_diameter_max,
        "feret_diameter_min": hulls.feret_diameter_min,
        "euler_number": euler,
    }
    return columns
