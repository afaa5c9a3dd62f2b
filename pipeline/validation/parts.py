"""Reads a part's two files and holds them against the manifest."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.ledger.ledger import Ledger
from pipeline.ledger.parts import read_part_bytes
from pipeline.ledger.removed import without_removed
from pipeline.ledger.views import annotations_of_task, images_of_task, parents_of
from pipeline.storage.errors import StorageError
from schemas.manifest import DatasetManifest, Part, TaskCounts
from schemas.tables import schema_of

from .findings import Findings

VERSION_KEY = b"maskmill_schema_version"


def read_checked(
    ledger: Ledger, part: Part, findings: Findings
) -> tuple[pa.Table, pa.Table] | None:
    """A part's images and annotations, None where they cannot be examined further.

    Args:
        ledger: The dataset.
        part: The manifest's entry.
        findings: Takes what is wrong.
    """
    storage, dataset, manifest = ledger.storage, ledger.uri, ledger.manifest
    try:
        removed = ledger.removed_of(part)
    except (StorageError, ValueError) as error:
        findings.add("part-removed", "part", [str(error)])
        return None
    tables: list[pa.Table] = []
    size = 0
    for name, digest, rows in (
        ("images", part.images_sha256, part.images),
        ("annotations", part.annotations_sha256, part.annotations),
    ):
        schema = schema_of(name, manifest.schema_version)
        label = f"{name}/{part.name}"
        try:
            data = read_part_bytes(storage, dataset, name, part.name)
        except StorageError as error:
            findings.add("part-missing", "part", [f"{label}: {error}"])
            continue
        size += len(data)
        if hashlib.sha256(data).hexdigest() != digest:
            findings.add("part-bytes", "part", [label])
        try:
            table = pq.read_table(pa.BufferReader(data))
        except (pa.ArrowException, OSError) as error:
            findings.add("part-missing", "part", [f"{label}: {str(error).splitlines()[0]}"])
            continue
        # Not `check_metadata=True`: that also compares the names Parquet gives to list items.
        said = (table.schema.metadata or {}).get(VERSION_KEY)
        if not table.schema.equals(schema) or said != schema.metadata[VERSION_KEY]:
            findings.add("part-schema", "part", [label])
            continue
        whole = len(table)
        table = without_removed(table, removed)
        if name == "images" and whole - len(table) != part.removed:
            findings.add("part-removed", "part", [f"{label}: not all removed rows are there"])
        if len(table) != rows:
            findings.add("part-rows", "part", [f"{label}: {len(table)} rows, not {rows}"])
        tables.append(table)
    if len(tables) < 2:
        return None
    if size != part.size:
        findings.add("part-bytes", "part", [f"{part.name}: {size} bytes, not {part.size}"])
    images, annotations = tables
    errors = Counter(code for code in images["error_code"].to_pylist() if code)
    if not _same(errors, part.errors):
        findings.add("part-counts", "part", [f"{part.name}: errors"])
    copies = len(images) - parents_of(images).null_count
    if copies != part.copies:
        findings.add("part-counts", "part", [f"{part.name}: copies"])
    _check_counts(images, annotations, part, part.name, findings)
    if part.tasks.keys() != (set(manifest.tasks) if len(manifest.tasks) > 1 else set()):
        findings.add("part-counts", "part", [f"{part.name}: tasks"])
    for task, own in part.tasks.items():
        mine = annotations_of_task(annotations, task)
        label = f"{part.name}: {task}"
        if len(mine) != own.annotations:
            findings.add("part-counts", "part", [f"{label} annotations"])
        seen = images_of_task(images, annotations, task, manifest.category_table())
        _check_counts(seen, mine, own, label, findings)
    return images, annotations


def _check_counts(
    images: pa.Table, annotations: pa.Table, said: Part | TaskCounts, label: str, findings: Findings
) -> None:
    found = {
        "statuses": images["status"].to_pylist(),
        "categories": [str(item) for item in annotations["category_id"].to_pylist()],
    }
    for key, values in found.items():
        if not _same(Counter(values), getattr(said, key)):
            findings.add("part-counts", "part", [f"{label}: {key}"])


def check_manifest(manifest: DatasetManifest, findings: Findings) -> None:
    """Holds the manifest's totals against the sums over its parts."""
    sums: dict[str, Counter[str]] = {key: Counter() for key in ("statuses", "errors", "categories")}
    for part in manifest.parts:
        for key, counter in sums.items():
            counter.update(getattr(part, key))
    counts = {
        "images": sum(part.images for part in manifest.parts),
        "annotations": sum(part.annotations for part in manifest.parts),
        "copies": sum(part.copies for part in manifest.parts),
        **sums["statuses"],
    }
    for key, found, said in (
        ("counts", counts, manifest.counts),
        ("error_counts", sums["errors"], manifest.error_counts),
        ("category_counts", sums["categories"], manifest.category_counts),
    ):
        if not _same(found, said):
            findings.add("manifest-counts", "", [key])


def _same(a: Mapping[str, int], b: Mapping[str, int]) -> bool:
    """Whether two counts agree; what is not named counts as 0."""
    return {key: n for key, n in a.items() if n} == {key: n for key, n in b.items() if n}
