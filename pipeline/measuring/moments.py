"""Area, centroid and the ellipse with a mask's second moments, from its runs.

Definitions are those of scikit-image's `regionprops`: the inertia tensor of Bernd Jähne, "Spatio-
Temporal Image Processing" (1993), without a term for the pixels' own extent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .mask_runs import Floats, Ints, MaskRuns


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
