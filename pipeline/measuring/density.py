"""How much of each category an image holds: counts, areas and densities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.measurements import IMAGES
from schemas.records import Status

from .mask_runs import Ints
from .originals import Seen

_MEGAPIXEL = 1e6
_MM2 = 1e6  # square micrometres


def image_table(
    images: Sequence[Mapping[str, Any]],
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


def _row(image: Mapping[str, Any], look: Seen, task: str, areas: np.ndarray) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: image[name] for name in ("image_id", "file_name", "status", "width", "height")
    }
    size = look.pixel_size
    row |= {
        "task": task,
        "pixel_size_um": size and size.um,
        "pixel_size_source": size and size.source,
        "note": look.note or None,
    }
    if image["status"] not in (Status.OK, Status.EMPTY):
        return row
    count, area, pixels = len(areas), int(areas.sum()), image["height"] * image["width"]
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
