"""The ledger: shards as pairs of Parquet files, receipts, the manifest; streaming reads."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.storage.errors import MissingError, StorageError
from pipeline.storage.optional import files_in
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri, beside, join, local_path
from schemas.categories import Categories
from schemas.manifest import SCHEMA_VERSION, DatasetManifest, Part, ShardReceipt, totals
from schemas.records import Failure, ImageRecord, Segmentation, Task
from schemas.rows import AnnotationRow, ImageRow, LabelledRows, Origin
from schemas.tables import schema_of

from .parts import (
    TABLES,
    annotation_rows,
    image_row,
    part_uri,
    read_part,
    rows_by_image,
    write_part,
)
from .receipts import write_receipt
from .removed import read_removed, without_removed
from .views import SEEN_IN, annotations_of_task, images_of_task

LARGEST_MASK = 1 << 30
"""Pixels: twice what a picture may have by default. A reader makes no larger array for a mask."""
_LOOKED_AT = pa.array(["ok", "empty"])
_KEPT_BYTES = 128 << 20
"""Of a dataset on an object store whose files are fetched once each: an export passes over them
nine times. Of a larger one the wanted columns are fetched each time."""
compute: Any = pc  # its functions are made at import time, out of a type checker's sight


class Ledger:
    """A published dataset, read part by part.

    Attributes:
        uri: Absolute URI of the dataset.
        manifest: The version that is read.
        storage: File access.
        categories: The category table.
    """

    def __init__(
        self, uri: str, manifest: DatasetManifest, storage: Storage, *, only: Task | None = None
    ) -> None:
        self.uri = uri
        self.manifest = manifest if only is None else manifest.view(only)
        self.storage = storage
        self.categories: Categories = manifest.category_table()
        self._only: Task | None = only if len(manifest.tasks) > 1 else None
        remote = local_path(uri) is None and sum(p.size for p in manifest.parts) <= _KEPT_BYTES
        self._kept: dict[tuple[str, str], bytes] | None = {} if remote else None
        self._removed: dict[str, npt.NDArray[np.int64]] | None = None

    def view(self, task: Task) -> Ledger:
        """The same dataset as if it held this task alone: its rows, statuses and counts.

        Ids stay those of the dataset, so segment ids may have gaps.

        Raises:
            ValueError: It does not hold it.
        """
        if self.manifest.tasks == (task,):
            return self
        found = Ledger(self.uri, self.manifest, self.storage, only=task)
        found._kept = self._kept
        return found

    def of_parts(self, parts: Sequence[Part]) -> Ledger:
        """The same dataset as if it consisted of these parts; the manifest's counts stay."""
        found = copy(self)
        found.manifest = replace(self.manifest, parts=tuple(parts))
        return found

    def images(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """One table of image rows a part, in input order."""
        for part in self.manifest.parts:
            yield self.images_of(part, columns)

    def annotations(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """One table of annotation rows a part, in the order of `images`."""
        for part in self.manifest.parts:
            yield self.annotations_of(part, columns)

    def images_of(self, part: Part, columns: Sequence[str] | None = None) -> pa.Table:
        """The image rows of a part."""
        if self._only is None or not (columns is None or {"status", "num_segments"} & {*columns}):
            return self._read("images", part, columns)
        wanted = columns and list(dict.fromkeys(["image_id", *columns]))
        images = self._read("images", part, wanted)
        annotations = self._read("annotations", part, SEEN_IN)
        images = images_of_task(images, annotations, self._only, self.categories)
        if columns is None:
            return images
        return images.select([name for name in columns if name in images.column_names])

    def annotations_of(self, part: Part, columns: Sequence[str] | None = None) -> pa.Table:
        """The annotation rows of a part."""
        if self._only is None:
            return self._read("annotations", part, columns)
        wanted = columns and list(dict.fromkeys(["task", *columns]))
        own = annotations_of_task(self._read("annotations", part, wanted), self._only)
        return own if columns is None else own.select(list(columns))

    def rows(self) -> Iterator[LabelledRows]:
        """Every image row with its annotation rows, in input order; one part in memory."""
        for images, segments in zip(self.images(), self.annotations(), strict=True):
            by_image = rows_by_image(segments)
            for image in images.to_pylist():
                yield image, by_image.get(image["image_id"], [])

    def removed_of(self, part: Part) -> npt.NDArray[np.int64]:
        """Ids of the images that lie in a part and are not of this version, ascending.

        Raises:
            StorageError: Their table cannot be read.
            ValueError: It is damaged.
        """
        if not part.removed:
            return np.empty(0, np.int64)
        if self._removed is None:
            self._removed = read_removed(self.storage, self.uri, self.manifest)
        found = self._removed.get(part.name, np.empty(0, np.int64))
        if len(found) != part.removed:
            raise ValueError(f"part {part.name}: {len(found)} rows removed, not {part.removed}")
        return found

    def _read(self, table: str, part: Part, columns: Sequence[str] | None) -> pa.Table:
        """The rows that this version has of a part: every reader of a dataset comes by here."""
        more = part.removed and columns is not None and "image_id" not in columns
        wanted = [*(columns or ()), "image_id"] if more else columns
        found = read_part(self.storage, self.uri, table, part.name, wanted, kept=self._kept)
        try:
            self._sound(found, table, wanted)
        except ValueError as error:
            raise ValueError(f"{part_uri(self.uri, table, part.name)}: {error}") from error
        found = without_removed(found, self.removed_of(part))
        return found.drop_columns(["image_id"]) if more else found

    def _sound(self, found: pa.Table, table: str, columns: Sequence[str] | None) -> None:
        """Sees that rows hold what every reader takes for granted; `jobs.validate` sees the rest.

        Raises:
            ValueError: A column is missing or of another type, a picture that was looked at has
                no size, a category is in no table, or a mask is larger than any picture may be.
        """
        for field in schema_of(table, self.manifest.schema_version):
            if columns is not None and field.name not in columns:
                continue
            if field.name not in found.column_names:
                raise ValueError(f"has no column {field.name!r}")
            if found.schema.field(field.name).type != field.type:
                kind = found.schema.field(field.name).type
                raise ValueError(f"column {field.name!r} holds {kind}, not {field.type}")
            if not field.nullable and found[field.name].null_count:
                raise ValueError(f"column {field.name!r} holds nulls")
        names = {*found.column_names}
        if {"status", "width", "height"} <= names:
            looked = compute.is_in(found["status"], value_set=_LOOKED_AT)
            sides = compute.min_element_wise(found["width"], found["height"], skip_nulls=False)
            sized = compute.fill_null(compute.greater(sides, 0), False)
            if compute.any(compute.and_not(looked, sized)).as_py():
                raise ValueError("a picture that was looked at has no width and height")
        if "category_id" in names:
            known = pa.array([item.id for item in self.categories], found["category_id"].type)
            strange = found.filter(compute.invert(compute.is_in(found["category_id"], known)))
            if len(strange):
                raise ValueError(f"unknown category {strange['category_id'][0].as_py()}")
        if "rle" in names and len(found):
            sizes = found["rle"].combine_chunks().field("size").flatten().to_numpy().reshape(-1, 2)
            most = int(sizes.astype(np.int64).prod(1).max())
            if (sizes < 0).any() or most > LARGEST_MASK:
                raise ValueError(f"a mask of {most} pixels, more than {LARGEST_MASK}")


def open_ledger(uri: str, storage: Storage | None = None) -> Ledger:
    """Opens the current version of a dataset.

    Raises:
        ValueError: `uri` holds no dataset of ours, or one of a newer schema version.
    """
    storage = storage or Storage()
    uri = absolute_uri(uri)
    try:
        return Ledger(uri, read_manifest(storage, join(uri, "manifest.json")), storage)
    except MissingError:
        hint = "" if storage.exists(uri) else beside(uri)
    raise ValueError(f"{uri} holds no dataset of ours: it has no manifest.json{hint}")


def read_manifest(storage: Storage, uri: str) -> DatasetManifest:
    """The manifest in this file.

    Raises:
        StorageError: It cannot be read.
        ValueError: It is not a manifest, or of a newer schema version; names the file.
    """
    try:
        return DatasetManifest.from_json(storage.read(uri))
    except ValueError as error:
        raise ValueError(f"{uri}: {error}") from error


def build_manifest(
    parts: Sequence[Part],
    *,
    version: int,
    categories: Categories,
    absent_images: int = 0,
    **fields: Any,
) -> DatasetManifest:
    """The manifest of these parts; counts are summed from them.

    Args:
        parts: In the order of the input.
        version: Number of the version.
        categories: The run's table.
        absent_images: Pictures that a file of prompts names and the input lacks.
        fields: The manifest's other fields.
    """
    table = categories.to_json()
    prompts: Counter[str] = Counter()
    for part in parts:
        prompts.update(part.prompts)
    if absent_images:
        prompts["absent_images"] = absent_images
    return DatasetManifest(
        schema_version=SCHEMA_VERSION,
        version=version,
        categories=table,
        parts=tuple(parts),
        **totals(parts, table),
        prompt_counts=dict(prompts),
        **fields,
    )


def part_sizes(storage: Storage, dataset: str) -> dict[str, dict[str, int]]:
    """Table → name of a part → bytes of its file, of all that lie there; one listing a table."""
    found: dict[str, dict[str, int]] = {}
    for table in TABLES:
        entries = files_in(storage, join(dataset, table), recursive=False)
        found[table] = {entry.path.removesuffix(".parquet"): entry.size for entry in entries}
    return found


def check_parts(storage: Storage, dataset: str, parts: Iterable[Part]) -> None:
    """Sees that the files of these parts are there, as long as they were when they were written.

    Raises:
        StorageError: One is not; names the first.
    """
    sizes = part_sizes(storage, dataset)
    wrong: list[str] = []
    for part in parts:
        files = [sizes[table].get(part.name) for table in TABLES]
        if None in files or sum(size or 0 for size in files) != part.size:
            wrong.append(part.name)
    if wrong:
        raise StorageError(
            f"{len(wrong)} parts of {dataset} are gone or cut short since they were written, the "
            f"first is {wrong[0]}: nothing is published"
        )


def publish(storage: Storage, dataset: str, manifest: DatasetManifest) -> DatasetManifest:
    """Makes `manifest` the current version, atomically, unless the current one says the same.

    A version is published only when all of its parts are there: a prune, a clean-up by hand or a
    full disk may have taken some away since they were written.

    Returns:
        The manifest that is current now.

    Raises:
        StorageError: It cannot be written, or a file that it names is not there.
        ValueError: The standing manifest is unreadable or of a newer schema version.
    """
    current = join(dataset, "manifest.json")
    with suppress(MissingError):
        standing = read_manifest(storage, current)
        if standing.same_dataset(manifest):
            return standing
        manifest = replace(manifest, version=standing.version + 1)
    check_parts(storage, dataset, manifest.parts)
    read_removed(storage, dataset, manifest)
    data = manifest.to_json().encode()
    # The numbered copy first: a version that was never current is overwritten by the next run.
    storage.write(join(dataset, "versions", f"{manifest.version:06d}.json"), data)
    storage.write(current, data)
    return DatasetManifest.from_json(data)  # in the order of keys that later runs find


def version_numbers(storage: Storage, dataset: str) -> list[int]:
    """The versions whose manifests are kept, ascending."""
    entries = files_in(storage, join(dataset, "versions"), recursive=False)
    found = (entry.path.removesuffix(".json") for entry in entries if entry.path.endswith(".json"))
    return sorted(int(name) for name in found if name.isdecimal())


def write_dataset(
    uri: str,
    images: Iterable[tuple[ImageRecord, Segmentation | Failure]],
    *,
    categories: Categories,
    task: Task | tuple[Task, ...] = "panoptic",
    model: str = "given",
    storage: Storage | None = None,
    shard_size: int = 256,
) -> Ledger:
    """Writes a dataset from segmentations that are already there: no model, no Ray.

    Args:
        uri: Where to.
        images: Records with ids and what was found in them.
        categories: The table that the segments refer to.
        task: Column `task`; where there are several, each segment names its own.
        model: Column `model`.
        storage: File access.
        shard_size: Images a part.

    Returns:
        The ledger of the published version.
    """
    storage = storage or Storage()
    uri = absolute_uri(uri)
    tasks: tuple[Task, ...] = (task,) if isinstance(task, str) else task
    run = hashlib.sha256(f"{','.join(tasks)} {model}".encode()).hexdigest()[:32]
    origin: Origin = {"model": model, "model_revision": "", "run": run}
    background = frozenset(item.id for item in categories if item.is_background)
    table = categories.by_id()
    parts: list[Part] = []
    image_rows: list[ImageRow] = []
    segment_rows: list[AnnotationRow] = []

    def flush() -> None:
        if image_rows:
            part = write_part(
                storage,
                uri,
                shard=f"{image_rows[0]['image_id']:08x}",
                run=run,
                images=image_rows,
                annotations=segment_rows,
                background=background,
                tasks=tasks,
            )
            token = part.name.rpartition("-")[2]
            receipt = ShardReceipt(
                part.name.rpartition("-")[0], token, run, part, part.images, 0, 0.0
            )
            write_receipt(storage, uri, receipt)
            parts.append(part)
            image_rows.clear()
            segment_rows.clear()

    for record, found in images:
        if isinstance(found, Failure):
            image_rows.append(image_row(record, failure=found))
        else:
            rows = annotation_rows(
                record.image_id, found, categories=table, origin=origin, tasks=tasks
            )
            segment_rows.extend(rows)
            size = (found.height, found.width)
            image_rows.append(
                image_row(record, segments=rows, background=background, original_hw=size)
            )
        if len(image_rows) >= shard_size:
            flush()
    flush()
    manifest = build_manifest(
        parts,
        version=1,
        categories=categories,
        input="",
        tasks=tasks,
        model={"name": model},
        config={},
        config_fingerprint=run,
        packages={},
    )
    return Ledger(uri, publish(storage, uri, manifest), storage)
