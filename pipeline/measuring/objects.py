"""Rows of the table of objects, put together from what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.measurements import AREAS, LENGTHS, OBJECTS

from .intensity import Intensities
from .mask_runs import Ints
from .units import PixelSize

GIVEN = (
    "annotation_id", "image_id", "segment_id", "task", "category_id", "category", "isthing",
    "iscrowd", "score",
)  # fmt: skip
"""Columns that are the dataset's own."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Which of n rows lie beside one another.

    Attributes:
        eligible: Rows that can have neighbours, ascending.
        one: p rows, ascending.
        other: A neighbour of each, ascending within a row.
    """

    eligible: Ints
    one: Ints
    other: Ints


def object_table(
    given: pa.Table,
    *,
    images: Sequence[Mapping[str, Any]],
    number: Ints,
    shapes: Mapping[str, np.ndarray],
    neighbours: Neighbours,
    intensities: Sequence[Intensities | None],
    pixel_sizes: Sequence[PixelSize | None],
) -> pa.Table:
    """Builds the rows of some images, with the schema `OBJECTS`.

    Args:
        given: n rows of the annotations table.
        images: Rows of the images table.
        number: Segments of each image; sum n.
        shapes: Column → n values.
        neighbours: Of the n rows.
        intensities: Of each image's segments, None where unknown.
        pixel_sizes: Of each image, None where unknown.
    """
    columns: dict[str, Any] = {name: given[name].combine_chunks() for name in GIVEN}
    columns["file_name"] = np.repeat(np.array([row["file_name"] for row in images], object), number)
    columns |= shapes
    columns |= _neighbour_columns(given["segment_id"].to_numpy(), neighbours)
    for item in fields(Intensities):
        columns[f"intensity_{item.name}"] = _lists(item.name, number, intensities)
    side = np.repeat([np.nan if size is None else size.um for size in pixel_sizes], number)
    columns["pixel_size_um"] = side
    columns |= {f"{name}_um2": shapes[name] * side * side for name in AREAS}
    columns |= {f"{name}_um": shapes[name] * side for name in LENGTHS}
    return pa.Table.from_arrays(
        [_array(columns[field.name], field.type) for field in OBJECTS], schema=OBJECTS
    )


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    """Numbers as Arrow holds them; NaN becomes null."""
    if isinstance(values, pa.Array):
        return values.cast(kind)
    if pa.types.is_fixed_size_list(kind):
        flat = pa.array(values.reshape(-1), kind.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, type=kind)
    return pa.array(values, kind, from_pandas=True)


def _neighbour_columns(segment_ids: np.ndarray, found: Neighbours) -> dict[str, pa.Array]:
    n = len(segment_ids)
    count = np.bincount(found.one, minlength=n)
    known = np.zeros(n, np.bool_)
    known[found.eligible] = True
    offsets = np.append(0, np.cumsum(count)).astype(np.int32)
    ids = pa.ListArray.from_arrays(
        pa.array(offsets),
        pa.array(segment_ids[found.other], pa.int32()),
        type=OBJECTS.field("neighbour_ids").type,
        mask=pa.array(~known),
    )
    return {"neighbours": pa.array(count, pa.int32(), mask=~known), "neighbour_ids": ids}


def _lists(name: str, number: Ints, found: Sequence[Intensities | None]) -> pa.Array:
    """One list of channels a segment, null where the picture is unknown."""
    measured = [None if item is None else getattr(item, name) for item in found]
    channels = [0 if values is None else values.shape[1] for values in measured]
    size = np.repeat(channels, number)
    flat = [values.reshape(-1) for values in measured if values is not None]
    return pa.ListArray.from_arrays(
        pa.array(np.append(0, np.cumsum(size)).astype(np.int32)),
        pa.array(np.concatenate([np.zeros(0), *flat]), pa.float64(), from_pandas=True),
        type=OBJECTS.field(f"intensity_{name}").type,
        mask=pa.array(size == 0),
    )
