"""Everything about the shape of many masks, column by column."""

from __future__ import annotations

from typing import Any

import numpy as np

from .contour import measure_perimeter, measure_windows
from .hull import measure_hulls
from .mask_runs import MaskRuns, lay_out
from .moments import measure_moments


def measure_shapes(runs: MaskRuns) -> dict[str, np.ndarray]:
    """Measures n masks.

    Args:
        runs: Of the masks.

    Returns:
        Column of `schemas.measurements.OBJECTS` → n values, pixels and radians; `circularity` is
        NaN where the perimeter is 0. Equal to scikit-image's `regionprops`, where it has the
        property.
    """
    canvas = lay_out(runs)
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
