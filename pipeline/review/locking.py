"""Corrections as locks, and the version of the dataset that follows them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from posixpath import normpath
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.ledger.current import show_current
from pipeline.ledger.ledger import Ledger, publish
from pipeline.ledger.locks import (
    Lock,
    LockConflict,
    LockedSegment,
    LockTable,
    plane_of,
    read_locks,
    view_of,
    write_locks,
)
from pipeline.ledger.parts import rows_by_image, write_part
from pipeline.ledger.removed import write_removed
from pipeline.ledger.views import is_copy
from pipeline.masks import codec
from schemas.categories import Categories
from schemas.manifest import SCHEMA_VERSION, Part, totals
from schemas.records import ImageRecord, Status, Task
from schemas.rows import AnnotationRow, ImageRow, LabelledRows, size_of

from .corrections import Correction

_IMAGE = ("width", "height", "size_bytes", "image_format", "exif_orientation", "note")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What became of a file of corrections.

    Attributes:
        locked: Pictures that are locked now as the file has them.
        unchanged: Pictures of which the same was known.
        replaced: Pictures that had been locked otherwise.
        conflicts: Pictures that could not be taken, and why.
        waiting: Pictures with augmented copies: their rows follow when `jobs.label` runs again.
        ledger: The version that is current now.
    """

    locked: tuple[str, ...]
    unchanged: tuple[str, ...]
    replaced: tuple[str, ...]
    conflicts: tuple[LockConflict, ...]
    waiting: tuple[str, ...]
    ledger: Ledger


def import_corrections(
    ledger: Ledger,
    corrections: Sequence[Correction],
    *,
    by: str,
    at: str,
    source: str,
    given: Mapping[str, str] | None = None,
) -> ImportResult:
    """Locks the pictures of corrections and publishes a version that follows them.

    Args:
        ledger: The dataset.
        corrections: What a person left.
        by: Who, where a correction does not say.
        at: When, likewise; ISO 8601.
        source: The file that they are from.
        given: File name → SHA-256 of the bytes that the person was given.

    Raises:
        ValueError: The dataset holds several tasks or is of an earlier schema version.
        StorageError: It cannot be read or written.
    """
    manifest = ledger.manifest
    if manifest.schema_version != SCHEMA_VERSION:
        raise ValueError(
            f"{ledger.uri} has schema version {manifest.schema_version}: run jobs.label again "
            f"first, which makes it {SCHEMA_VERSION}"
        )
    if len(manifest.tasks) > 1:
        raise ValueError(
            f"{ledger.uri} holds the tasks {', '.join(manifest.tasks)}: corrections are of one"
        )
    wanted = {item.file_name for item in corrections}
    rows, names_of = _images_of(ledger, wanted | {_plain(name) for name in wanted})
    corrections = [
        item if item.file_name in rows else replace(item, file_name=_plain(item.file_name))
        for item in corrections
    ]
    standing = read_locks(ledger.storage, ledger.uri)
    locked: dict[str, list[str]] = {"locked": [], "unchanged": [], "replaced": []}
    conflicts: list[LockConflict] = []
    locks: dict[tuple[str, str], Lock] = {}
    settings = manifest.config.get("images", {})
    for item in corrections:
        row = rows.get(item.file_name)
        sha256 = item.sha256 or (given or {}).get(item.file_name, "")
        reason = item.problem or _refusal(item, row, sha256)
        if not reason and row is not None:
            try:
                segments = _segments(item, row, ledger.categories, manifest.task)
                height, width = size_of(row)
                key = row["sha256"] or "", plane_of(row)
                lock = Lock(
                    sha256=key[0],
                    view=view_of(settings, key[1]),
                    file_names=tuple(sorted(names_of[key])),
                    task=manifest.task,
                    width=width,
                    height=height,
                    size_bytes=row["size_bytes"],
                    image_format=row["image_format"],
                    exif_orientation=row["exif_orientation"],
                    note=row["note"],
                    locked_by=item.by or by,
                    locked_at=item.at or at,
                    locked_from=source,
                    segments=segments,
                )
            except ValueError as error:
                reason = str(error)
            else:
                before = standing.get(lock.sha256, lock.view)
                reason = _twice(locks.get((lock.sha256, lock.view)), lock)
                if not reason:
                    kind = "locked" if before is None else "replaced"
                    if before is not None and before.segments == lock.segments:
                        lock, kind = replace(before, file_names=lock.file_names), "unchanged"
                    if item.file_name not in locked[kind]:
                        locked[kind].append(item.file_name)
                    locks[lock.sha256, lock.view] = lock
        if reason:
            conflicts.append(LockConflict(item.file_name, reason))
    table = standing.with_locks(locks.values())
    waiting: list[str] = []
    if locked["locked"] or locked["replaced"]:
        write_locks(ledger.storage, ledger.uri, table)
        ledger, waiting = follow_locks(ledger, table)
    return ImportResult(
        **{kind: tuple(names) for kind, names in locked.items()},
        conflicts=tuple(conflicts),
        waiting=tuple(waiting),
        ledger=ledger,
    )


def _plain(file_name: str) -> str:
    """A name with the separators of everybody but Windows, without `./`."""
    return normpath(file_name.replace("\\", "/")) if file_name else ""


def follow_locks(ledger: Ledger, locks: LockTable) -> tuple[Ledger, list[str]]:
    """Publishes the dataset with the rows of locks in place of the model's.

    Returns:
        The version that is current now, and the pictures that have augmented copies: those and
        their copies stay as they are until `jobs.label` makes the copies anew.
    """
    manifest = ledger.manifest
    background = frozenset(item.id for item in ledger.categories if item.is_background)
    parts: list[Part] = []
    waiting: list[str] = []
    for part in manifest.parts:
        images = ledger.images_of(part).to_pylist()
        due = _due(images, locks, ledger, background)
        parents = {row["parent_image_id"] for row in images if is_copy(row)}
        copied = [id_ for id_ in due if id_ in parents]
        waiting += [row["file_name"] for row in images if row["image_id"] in copied]
        due = {id_: rows for id_, rows in due.items() if id_ not in parents}
        parts.append(_rewritten(ledger, part, images, due, background) if due else part)
    removed = {part.name: ledger.removed_of(part) for part in parts}
    table = write_removed(ledger.storage, ledger.uri, removed)
    counts = totals(parts, manifest.categories)
    changed = replace(manifest, version=1, parts=tuple(parts), removed=table, **counts)
    published = publish(ledger.storage, ledger.uri, changed)
    show_current(ledger.storage, ledger.uri, published)
    return Ledger(ledger.uri, published, ledger.storage), waiting


def _due(
    images: Sequence[ImageRow], locks: LockTable, ledger: Ledger, background: frozenset[int]
) -> dict[int, LabelledRows]:
    """Image id → the rows that its lock asks for, where it has others."""
    run, due = ledger.manifest.config_fingerprint, {}
    settings = ledger.manifest.config.get("images", {})
    for row in images:
        if is_copy(row) or not row["sha256"]:
            continue
        lock = locks.get(row["sha256"], view_of(settings, plane_of(row)))
        if lock is None or ledger.manifest.tasks != (lock.task,):
            continue
        record = ImageRecord(row["file_name"], "", image_id=row["image_id"], plane=plane_of(row))
        rows = lock.rows(record, ledger.categories, run=run, background=background)
        if rows is not None and rows[0]["fingerprint"] != row["fingerprint"]:
            due[row["image_id"]] = rows
    return due


def _rewritten(
    ledger: Ledger,
    part: Part,
    images: Sequence[ImageRow],
    due: Mapping[int, LabelledRows],
    background: frozenset[int],
) -> Part:
    standing = rows_by_image(ledger.annotations_of(part))
    new_images: list[ImageRow] = []
    annotations: list[AnnotationRow] = []
    for row in images:
        id_ = row["image_id"]
        if id_ not in due:
            new_images.append(row)
            annotations += standing.get(id_, [])
            continue
        image, segments = due[id_]
        new_images.append({**image, "split": row["split"]})
        annotations += segments
    return write_part(
        ledger.storage,
        ledger.uri,
        shard=part.name.rpartition("-")[0],
        run=f"{ledger.manifest.config_fingerprint} review",
        images=new_images,
        annotations=annotations,
        background=background,
        tasks=ledger.manifest.tasks,
    )


def _images_of(
    ledger: Ledger, wanted: set[str]
) -> tuple[dict[str, ImageRow], dict[tuple[str, str], list[str]]]:
    """Rows of images by name; and all names of the same bytes and plane."""
    columns = ("file_name", "sha256", "parent_image_id", "plane_axis", "plane_index")
    rows: dict[str, ImageRow] = {}
    for table in ledger.images((*columns, "status", *_IMAGE)):
        chosen = table.filter(pa.array([name in wanted for name in table["file_name"].to_pylist()]))
        rows |= {row["file_name"]: row for row in chosen.to_pylist() if not is_copy(row)}
    names: dict[tuple[str, str], list[str]] = {
        (row["sha256"], plane_of(row)): [] for row in rows.values() if row["sha256"]
    }
    for table in ledger.images(columns):
        for row in table.to_pylist():
            key = row["sha256"], plane_of(row)
            if key in names and not is_copy(row):
                names[key].append(row["file_name"])
    return rows, names


def _refusal(item: Correction, row: ImageRow | None, given: str) -> str:
    """Why a correction cannot be taken, "" if it can."""
    if row is None:
        return "the dataset has no picture of this name"
    if row["status"] not in (Status.OK, Status.EMPTY):
        return f"the dataset could not read the picture ({row['status']})"
    if not row["sha256"]:
        return "the dataset does not know the picture's bytes, which a lock is kept under"
    if given and given != row["sha256"]:
        return "its bytes changed since it was given out"
    if item.height and (item.height, item.width) != (row["height"], row["width"]):
        return (
            f"it was corrected at {item.width} × {item.height} pixels and has {row['width']} × "
            f"{row['height']}"
        )
    return ""


def _twice(before: Lock | None, lock: Lock) -> str:
    if before is None or before.segments == lock.segments:
        return ""
    return "the file corrects the same bytes in two ways"


def _segments(
    item: Correction, row: ImageRow, categories: Categories, task: Task
) -> tuple[LockedSegment, ...]:
    """The regions as the task wants them; what the rest of the picture is, is added.

    Raises:
        ValueError: A category is unknown, a mask is empty, or masks overlap that must not.
    """
    height, width = size_of(row)
    table = {category.name: category for category in categories}
    unknown = sorted({region.category for region in item.regions} - set(table))
    if unknown:
        raise ValueError(f"the dataset has no category {', '.join(map(repr, unknown))}")
    regions = [
        (region.category, codec.decode(region.counts, height, width), region.iscrowd)
        for region in item.regions
    ]
    for name, mask, _ in regions:
        if not mask.any():
            raise ValueError(f"a region of {name!r} has no pixel")
    if task != "instance":
        taken = np.zeros((height, width), np.uint8)
        whole: dict[str, Any] = {}
        kept = []
        for name, mask, crowd in regions:
            if (taken & mask).any():
                raise ValueError(f"a region of {name!r} lies over another, which {task} forbids")
            taken |= mask
            if task == "semantic" or not table[name].isthing:
                whole[name] = mask | whole[name] if name in whole else mask
            else:
                kept.append((name, mask, crowd))
        rest = next((category.name for category in categories if category.is_background), None)
        if rest is not None and not taken.all():
            whole[rest] = (1 - taken) | whole.get(rest, 0)
        regions = [*kept, *((name, mask, False) for name, mask in whole.items())]
    found = []
    for name, mask, crowd in regions:
        counts = codec.encode(mask)
        found.append(
            LockedSegment(
                category=name,
                counts=counts.decode(),
                area=int(np.count_nonzero(mask)),
                bbox_xywh=codec.bbox_xywh(counts, height, width),
                iscrowd=crowd,
            )
        )
    return tuple(found)
