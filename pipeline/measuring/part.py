"""One part of a dataset measured: what a worker process does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ledger.parts import read_part
from pipeline.ledger.removed import without_removed
from pipeline.ledger.views import PARENT, parents_of, without_copies
from pipeline.masks.column_runs import Ints, MaskRuns, mask_runs
from pipeline.readers import Reader
from pipeline.storage.storage import Storage
from schemas.config.job import ImagesConfig
from schemas.measurements import OBJECTS
from schemas.records import ImageRecord, Status

from .intensity import Intensities, measure_intensities
from .originals import Seen, look_at
from .shape import measure_shapes
from .tables import GIVEN, Neighbours, image_table, object_table
from .units import PixelSizeChoice

# Which masks lie beside one another, from their runs.

_PAIRS = 2_000_000


def find_neighbours(runs: MaskRuns, group: Ints, distance: int) -> tuple[Ints, Ints]:
    """Finds the masks of which pixels lie within `distance` columns and rows of each other.

    At distance 1 they touch, if only at a corner; at distance 0 they overlap.

    Args:
        runs: Of n masks.
        group: n numbers ≥ 0, ascending: only masks of one group (a picture) can be neighbours.
        distance: Pixels ≥ 0.

    Returns:
        p indices of masks and p indices of their neighbours, every pair both ways, in ascending
        order.
    """
    # Runs on one number line: pictures, then columns, each with room below for the search.
    picture = np.unique(group, return_inverse=True)[1]
    tall = np.zeros(picture.max(initial=-1) + 1, np.int64)
    wide = tall.copy()
    np.maximum.at(tall, picture, runs.heights)
    np.maximum.at(wide, picture, runs.widths)
    stride = tall + 2 * distance
    size = (wide + distance) * stride
    base = np.cumsum(size) - size
    mine = picture[runs.owner]
    start = base[mine] + runs.column * stride[mine] + runs.top + distance
    order = np.argsort(start, kind="stable")
    owner, start = runs.owner[order], start[order]
    end = start + runs.lengths()[order]
    stride = stride[mine[order]]
    reach = np.maximum.accumulate(end) if len(end) else end

    n = len(runs)
    pairs = np.zeros(0, np.int64)
    for shift in range(distance + 1):
        low, high = start + shift * stride - distance, end + shift * stride + distance
        # From the first run that reaches below `low` to the last one that begins above `high`.
        begin = np.searchsorted(reach, low, side="right")
        number = np.maximum(np.searchsorted(start, high) - begin, 0)
        total = np.cumsum(number)
        at = 0
        while at < len(total):
            limit = total[at] - number[at] + _PAIRS
            until = max(at + 1, int(np.searchsorted(total, limit, side="right")))
            count = number[at:until]
            one = np.repeat(np.arange(at, until), count)
            other = np.arange(len(one)) - np.repeat(
                np.cumsum(count) - count - begin[at:until], count
            )
            a, b = owner[one], owner[other]
            near = (end[other] > low[one]) & (a != b)
            a, b = a[near], b[near]
            pairs = np.unique(np.concatenate((pairs, a * n + b, b * n + a)))
            at = until
    return pairs // n, pairs % n


_IMAGE_COLUMNS = ("image_id", "file_name", "status", "width", "height", "sha256", PARENT)
_CHARACTERS = 500_000
"""Of RLE strings that are measured at once: some 200,000 runs, whose arrays fit into a cache."""


@dataclass(frozen=True, slots=True)
class MeasureSpec:
    """How the parts of a dataset are measured; small and picklable.

    Attributes:
        storage: File access.
        dataset: Absolute URI.
        reader: Of the pictures, None where they are not wanted or gone.
        tasks: Of the dataset.
        background: Category ids that take the rest of a picture.
        intensity: Whether pictures' values are measured.
        choice: Where pixel sizes come from.
        images: How pictures are decoded.
        distance: Pixels within which segments are neighbours.
    """

    storage: Storage
    dataset: str
    reader: Reader | None
    tasks: tuple[str, ...]
    background: frozenset[int]
    intensity: bool
    choice: PixelSizeChoice
    images: ImagesConfig
    distance: int


@dataclass(frozen=True, slots=True)
class MeasuredPart:
    """Rows of one part.

    Attributes:
        objects: With the schema `schemas.measurements.OBJECTS`.
        images: With the schema `schemas.measurements.IMAGES`.
    """

    objects: pa.Table
    images: pa.Table


def measure_part(
    spec: MeasureSpec,
    name: str,
    records: Mapping[str, ImageRecord],
    removed: Ints | None = None,
) -> MeasuredPart:
    """Measures every segment of a part.

    Args:
        spec: How.
        name: Of the part.
        records: File name → where its picture lies; empty where none is wanted.
        removed: Ids of its images that are not of the version.

    Raises:
        StorageError: The part cannot be read.
        ValueError: It is damaged.
    """
    table = read_part(spec.storage, spec.dataset, "images", name, _IMAGE_COLUMNS)
    given = read_part(spec.storage, spec.dataset, "annotations", name, (*GIVEN, "rle"))
    if removed is not None:
        table, given = without_removed(table, removed), without_removed(given, removed)
    copies = pc.call_function("is_valid", [parents_of(table)])
    of_copies = table["image_id"].filter(copies)
    if len(of_copies):  # the same objects again
        given = given.filter(~pc.field("image_id").isin(of_copies))
    images = without_copies(table).to_pylist()
    place = {row["image_id"]: index for index, row in enumerate(images)}
    try:
        image = np.array([place[key] for key in given["image_id"].to_pylist()], np.int64)
    except KeyError as error:
        raise ValueError(f"part {name}: no image has the id {error}") from None
    if (np.diff(image) < 0).any():
        raise ValueError(f"part {name}: annotations are not in the order of the images")
    bounds = np.searchsorted(image, np.arange(len(images) + 1))
    seen: list[Seen] = []
    tables = [OBJECTS.empty_table()]
    for first, last in _spans(given, bounds):
        rows = given.slice(bounds[first], bounds[last] - bounds[first])
        try:
            runs = _runs(rows)
        except ValueError as error:
            raise ValueError(f"part {name}, row {bounds[first]} on: {error}") from None
        intensities: list[Intensities | None] = []
        for index in range(first, last):
            own = np.arange(bounds[index], bounds[index + 1]) - bounds[first]
            look = _look(spec, images[index], records, wanted=len(own) > 0)
            found = None
            if runs is not None and look.values is not None:
                found = measure_intensities(runs.choose(own), look.values, look.bands)
            intensities.append(found)
            seen.append(replace(look, values=None))
        if runs is not None:
            tables.append(
                object_table(
                    rows,
                    images=images[first:last],
                    number=np.diff(bounds[first : last + 1]),
                    shapes=measure_shapes(runs),
                    neighbours=_neighbours(runs, rows, spec),
                    intensities=intensities,
                    pixel_sizes=[look.pixel_size for look in seen[first:last]],
                )
            )
    objects = pa.concat_tables(tables)
    return MeasuredPart(
        objects,
        image_table(images, seen, objects, bounds, tasks=spec.tasks, background=spec.background),
    )


def _spans(given: pa.Table, bounds: Ints) -> Iterator[tuple[int, int]]:
    """Images first…last−1 whose strings make a block, whole images each."""
    if not given.num_rows:
        yield 0, len(bounds) - 1
        return
    total = _ends(_texts(given))[bounds]
    first = 0
    while first < len(bounds) - 1:
        last = int(np.searchsorted(total, total[first] + _CHARACTERS, side="right")) - 1
        last = max(last, first + 1)
        yield first, last
        first = last


def _texts(rows: pa.Table) -> pa.StringArray:
    return rows["rle"].combine_chunks().field("counts")


def _ends(texts: pa.StringArray) -> Ints:
    """Characters before each string, and in all."""
    length = pc.call_function("binary_length", [texts]).to_numpy()
    return np.append(0, np.cumsum(length, dtype=np.int64))


def _runs(rows: pa.Table) -> MaskRuns | None:
    if not rows.num_rows:
        return None
    size = rows["rle"].combine_chunks().field("size").flatten().to_numpy().astype(np.int64)
    return mask_runs(_texts(rows), size[0::2], size[1::2])


def _look(
    spec: MeasureSpec,
    row: dict[str, object],
    records: Mapping[str, ImageRecord],
    *,
    wanted: bool,
) -> Seen:
    if row["status"] not in (Status.OK, Status.EMPTY):
        return Seen(pixel_size=spec.choice.given)
    return look_at(
        row,
        spec.reader,
        records.get(str(row["file_name"])),
        intensity=spec.intensity and wanted,
        choice=spec.choice,
        images=spec.images,
    )


def _neighbours(runs: MaskRuns, rows: pa.Table, spec: MeasureSpec) -> Neighbours:
    """Neighbours among the segments of one image and task that are not background."""
    category = rows["category_id"].to_numpy()
    eligible = np.flatnonzero(~np.isin(category, list(spec.background)))
    task = np.unique(rows["task"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    group = rows["image_id"].to_numpy() * len(spec.tasks) + task
    if not len(eligible):
        none = np.zeros(0, np.int64)
        return Neighbours(eligible, none, none)
    one, other = find_neighbours(runs.choose(eligible), group[eligible], spec.distance)
    return Neighbours(eligible, eligible[one], eligible[other])
