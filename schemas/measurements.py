"""Arrow schemas of what jobs.measure writes. docs/measuring.md explains every column."""

from __future__ import annotations

import pyarrow as pa

MEASUREMENTS_VERSION = 2
"""Of the tables below."""

LENGTHS = (
    "equivalent_diameter",
    "perimeter",
    "perimeter_crofton",
    "axis_major_length",
    "axis_minor_length",
    "feret_diameter_max",
    "feret_diameter_min",
)
"""Columns in pixels that have a twin in micrometres, named `<column>_um`."""

AREAS = ("area", "area_convex")
"""Columns in pixels that have a twin in square micrometres, named `<column>_um2`."""

_METADATA = {"maskmill_measurements_version": str(MEASUREMENTS_VERSION)}
_PER_CHANNEL = pa.list_(pa.field("element", pa.float64()))


def _known(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


OBJECTS = pa.schema(
    [
        _known("annotation_id", pa.int64()),
        _known("image_id", pa.int64()),
        _known("file_name", pa.string()),
        _known("segment_id", pa.int32()),
        _known("task", pa.string()),
        _known("category_id", pa.int32()),
        _known("category", pa.string()),
        _known("isthing", pa.bool_()),
        _known("iscrowd", pa.int8()),
        pa.field("score", pa.float32()),
        _known("area", pa.int64()),
        _known("bbox_xywh", pa.list_(pa.field("element", pa.int32()), 4)),
        _known("centroid_y", pa.float64()),
        _known("centroid_x", pa.float64()),
        _known("touches_border", pa.bool_()),
        _known("equivalent_diameter", pa.float64()),
        _known("perimeter", pa.float64()),
        _known("perimeter_crofton", pa.float64()),
        _known("axis_major_length", pa.float64()),
        _known("axis_minor_length", pa.float64()),
        _known("orientation", pa.float64()),
        _known("eccentricity", pa.float64()),
        _known("area_convex", pa.int64()),
        _known("solidity", pa.float64()),
        _known("extent", pa.float64()),
        pa.field("circularity", pa.float64()),
        _known("feret_diameter_max", pa.float64()),
        _known("feret_diameter_min", pa.float64()),
        _known("euler_number", pa.int32()),
        pa.field("neighbours", pa.int32()),
        pa.field("neighbour_ids", pa.list_(pa.field("element", pa.int32()))),
        pa.field("intensity_mean", _PER_CHANNEL),
        pa.field("intensity_std", _PER_CHANNEL),
        pa.field("intensity_min", _PER_CHANNEL),
        pa.field("intensity_max", _PER_CHANNEL),
        pa.field("pixel_size_um", pa.float64()),
        *(pa.field(f"{name}_um2", pa.float64()) for name in AREAS),
        *(pa.field(f"{name}_um", pa.float64()) for name in LENGTHS),
    ],
    metadata=_METADATA,
)
"""One row a segment of the dataset, in the dataset's order."""

IMAGES = pa.schema(
    [
        _known("image_id", pa.int64()),
        _known("file_name", pa.string()),
        _known("status", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        _known("task", pa.string()),
        pa.field("category_id", pa.int32()),
        pa.field("category", pa.string()),
        pa.field("count", pa.int32()),
        pa.field("area", pa.int64()),
        pa.field("area_fraction", pa.float64()),
        pa.field("mean_area", pa.float64()),
        pa.field("density_per_mpx", pa.float64()),
        pa.field("pixel_size_um", pa.float64()),
        pa.field("pixel_size_z_um", pa.float64()),
        pa.field("pixel_size_source", pa.string()),
        pa.field("area_um2", pa.float64()),
        pa.field("density_per_mm2", pa.float64()),
        pa.field("note", pa.string()),
    ],
    metadata=_METADATA,
)
"""A row an image and category that is in it, after one without a category for all of them."""

CHANGES = pa.schema(
    [
        _known("file_name", pa.string()),
        _known("task", pa.string()),
        _known("change", pa.string()),
        pa.field("annotation_id_a", pa.int64()),
        pa.field("annotation_id_b", pa.int64()),
        pa.field("category_a", pa.string()),
        pa.field("category_b", pa.string()),
        pa.field("category_changed", pa.bool_()),
        pa.field("iou", pa.float64()),
        pa.field("area_a", pa.int64()),
        pa.field("area_b", pa.int64()),
        pa.field("area_change", pa.int64()),
        pa.field("area_ratio", pa.float64()),
    ],
    metadata=_METADATA,
)
"""A row an object of either dataset of a comparison."""
