"""A Parquet file that grows by small tables and has large row groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.masks.column_runs import Ints
from schemas.measurements import AREAS, IMAGES, LENGTHS, OBJECTS
from schemas.records import Status
from schemas.rows import ImageRow, size_of

from .intensity import Intensities
from .originals import Seen
from .units import PixelSize

# Rows of the table of objects, put together from what was measured.

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
    images: Sequence[ImageRow],
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


# How much of each category an image holds: counts, areas and densities.

_MEGAPIXEL = 1e6
_MM2 = 1e6  # square micrometres


def image_table(
    images: Sequence[ImageRow],
    seen: Sequence[Seen],
    objects: pa.Table,
    bounds: Ints,
    *,
    tasks: Sequence[str],
    background: frozenset[int],
) -> pa.Table:
    """Rows with the schema `IMAGES`.

    For each image and task one row without a category, about all segments but background; then
    one row a category that is there, by id. An image that failed has nulls for all numbers.

    Args:
        images: m rows of the dataset's images table.
        seen: What was learnt from each picture.
        objects: Measured segments of these images, in their order.
        bounds: m + 1 indices into `objects`, where each image's segments begin and end.
        tasks: Of the dataset.
        background: Category ids that are not counted together with others.
    """
    task = objects["task"].to_numpy(zero_copy_only=False)
    category = objects["category_id"].to_numpy()
    area = objects["area"].to_numpy()
    names = dict(zip(category.tolist(), objects["category"].to_pylist(), strict=True))
    foreground = ~np.isin(category, list(background))
    rows: list[dict[str, Any]] = []
    for index, (image, look) in enumerate(zip(images, seen, strict=True)):
        own = slice(bounds[index], bounds[index + 1])
        for name in tasks:
            mine = np.flatnonzero(task[own] == name) + bounds[index]
            rows.append(_row(image, look, name, area[mine[foreground[mine]]]))
            for key in np.unique(category[mine]).tolist():
                rows.append(
                    _row(image, look, name, area[mine[category[mine] == key]])
                    | {"category_id": key, "category": names[key]}
                )
    return pa.Table.from_pylist(rows, schema=IMAGES)


def _row(image: ImageRow, look: Seen, task: str, areas: np.ndarray) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: image[name] for name in ("image_id", "file_name", "status", "width", "height")
    }
    size = look.pixel_size
    row |= {
        "task": task,
        "pixel_size_um": size and size.um,
        "pixel_size_z_um": size and size.z_um,
        "pixel_size_source": size and size.source,
        "note": look.note or None,
    }
    if image["status"] not in (Status.OK, Status.EMPTY):
        return row
    count, area, pixels = len(areas), int(areas.sum()), prod(size_of(image))
    row |= {
        "count": count,
        "area": area,
        "area_fraction": area / pixels,
        "mean_area": area / count if count else None,
        "density_per_mpx": count / pixels * _MEGAPIXEL,
    }
    if size is not None:
        square = size.um * size.um
        row |= {"area_um2": area * square, "density_per_mm2": count / (pixels * square) * _MM2}
    return row


_ROWS = 65_536


class TableWriter:
    """Writes rows to a local file; where the groups begin depends on the rows alone."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._waiting = schema.empty_table()

    def add(self, table: pa.Table) -> None:
        """Adds rows."""
        self._waiting = pa.concat_tables([self._waiting, table])
        while self._waiting.num_rows >= _ROWS:
            self._write(self._waiting.slice(0, _ROWS))
            self._waiting = self._waiting.slice(_ROWS)

    def close(self) -> None:
        """Writes what is left and ends the file."""
        self._write(self._waiting)
        self._writer.close()

    def _write(self, rows: pa.Table) -> None:
        # In one piece: how rows were cut into tables would show in the file's pages.
        self._writer.write_table(rows.combine_chunks(), row_group_size=_ROWS)
