"""One shard as a pair of Parquet files: image rows, annotation rows, and their idempotent write."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.errors import MissingError, StorageError
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join, local_path
from schemas.categories import Category
from schemas.manifest import Part
from schemas.records import (
    SEGMENT_BITS,
    ErrorCode,
    Evidence,
    Failure,
    ImageRecord,
    Segmentation,
    Status,
    Task,
    annotation_id,
)
from schemas.rows import AnnotationRow, ImageRow, Origin, PromptOutcome
from schemas.tables import ANNOTATIONS, IMAGES

from .part_counts import part_counts

_log = logging.getLogger(__name__)

RETRYABLE: frozenset[str] = frozenset(
    {ErrorCode.READ_ERROR, ErrorCode.MODEL_ERROR, ErrorCode.CRASHED}
)
"""Failures that another try may not repeat: never copied from an earlier version."""
TRIED_AGAIN: frozenset[str] = RETRYABLE | {ErrorCode.TOO_LARGE}
"""What `--retry-failed` tries. Too large may have been so for the memory of one worker; what is so
by rule stays as it is."""

TABLES = ("images", "annotations")
"""Folders of a part's two files."""


class TooManySegmentsError(ValueError):
    """One image has more segments than there are ids."""


def part_uri(dataset: str, table: str, name: str) -> str:
    """URI of a part's file; `table` is "images" or "annotations"."""
    return join(dataset, table, f"{name}.parquet")


def archived_uri(dataset: str, table: str, name: str) -> str:
    """URI of the same file while the current version does not use it."""
    return join(dataset, "versions", table, f"{name}.parquet")


def read_part(
    storage: Storage,
    dataset: str,
    table: str,
    name: str,
    columns: Sequence[str] | None = None,
    *,
    kept: dict[tuple[str, str], bytes] | None = None,
) -> pa.Table:
    """One Parquet file of a part as a table, wherever it lies: see `show_current`.

    Args:
        storage: File access.
        dataset: Absolute URI.
        table: Of `TABLES`.
        name: Of the part.
        columns: Which; None = all.
        kept: (table, part) → whole files, where they are fetched once and kept.

    Raises:
        StorageError: The file is missing or cannot be read.
        ValueError: It is not Parquet.
    """
    uri = part_uri(dataset, table, name)
    tries = 1 if local_path(uri) is not None else 3  # a range of an object has no checksum
    while True:
        try:
            with _open_part(storage, dataset, table, name, kept) as file:
                # Not pq.read_table: it imports pandas, two seconds a process.
                parquet = pq.ParquetFile(file, page_checksum_verification=True)
                return parquet.read(columns=list(columns) if columns is not None else None)
        except StorageError:
            raise
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            # Damage shows as any of these: OSError for a page that does not decompress.
            tries, reason = tries - 1, " ".join(str(error).split())
            if kept is not None:
                kept.pop((table, name), None)
            if not tries:
                raise ValueError(f"{uri} is not a readable Parquet file: {reason}") from error
            _log.warning("reading it again: %s: %s", uri, reason)


def read_part_bytes(storage: Storage, dataset: str, table: str, name: str) -> bytes:
    """The same file as it is.

    Raises:
        StorageError: The file is missing or cannot be read.
    """
    try:
        return storage.read(part_uri(dataset, table, name))
    except MissingError as error:
        try:
            return storage.read(archived_uri(dataset, table, name))
        except MissingError:
            raise error from None


def _open_part(
    storage: Storage,
    dataset: str,
    table: str,
    name: str,
    kept: dict[tuple[str, str], bytes] | None = None,
) -> BinaryIO:
    if kept is not None:
        if (data := kept.get((table, name))) is None:
            data = kept[table, name] = read_part_bytes(storage, dataset, table, name)
        return io.BytesIO(data)
    try:
        return storage.open(part_uri(dataset, table, name), from_end=True)
    except MissingError as error:
        try:
            return storage.open(archived_uri(dataset, table, name), from_end=True)
        except MissingError:
            raise error from None


def rows_by_image(annotations: pa.Table) -> dict[int, list[AnnotationRow]]:
    """Annotation rows grouped by image_id, order kept."""
    grouped: dict[int, list[AnnotationRow]] = {}
    for row in annotations.to_pylist():
        grouped.setdefault(row["image_id"], []).append(row)
    return grouped


def image_row(
    record: ImageRecord,
    *,
    segments: Sequence[AnnotationRow] = (),
    background: frozenset[int] = frozenset(),
    failure: Failure | None = None,
    original_hw: tuple[int, int] | None = None,
    image_format: str = "",
    orientation: int | None = None,
    note: str = "",
    size_bytes: int | None = None,
    sha256: str = "",
    fingerprint: str = "",
    prompts: Sequence[PromptOutcome] = (),
) -> ImageRow:
    """One row of the images table.

    Args:
        record: The image, with its id.
        segments: Its annotation rows.
        background: Category ids whose segments count as nothing found.
        failure: Why it failed; the status follows from this and `segments`.
        original_hw: (height, width) after EXIF rotation where known.
        image_format: "JPEG", …
        orientation: EXIF orientation that was applied.
        note: What decoding dropped or assumed.
        size_bytes: Length of the file's bytes.
        sha256: Of those bytes, hex.
        fingerprint: Key of the labels.
        prompts: What came of each prompt of a file of prompts.
    """
    found = any(row["category_id"] not in background for row in segments)
    status = Status.FAILED if failure else Status.OK if found else Status.EMPTY
    axis, _, number = record.plane.partition("=")
    return {
        "image_id": record.image_id,
        "file_name": record.file_name,
        "width": original_hw[1] if original_hw else None,
        "height": original_hw[0] if original_hw else None,
        "status": str(status),
        "error_code": str(failure.code) if failure else None,
        "error_message": failure.message if failure else None,
        "num_segments": len(segments),
        "image_format": image_format or None,
        "exif_orientation": orientation,
        "note": note or None,
        "size_bytes": size_bytes,
        "sha256": sha256 or None,
        "fingerprint": fingerprint,
        "split": None,
        "parent_image_id": None,
        "augmentation": None,
        "prompts": list(prompts) or None,
        "parent_file_name": record.file_name.removesuffix(f"#{record.plane}") if number else None,
        "plane_axis": axis or None,
        "plane_index": int(number) if number else None,
        "locked": None,
        "locked_by": None,
        "locked_at": None,
        "locked_from": None,
    }


def annotation_rows(
    image_id: int,
    segmentation: Segmentation,
    *,
    categories: Mapping[int, Category],
    origin: Origin,
    tasks: Sequence[Task],
) -> list[AnnotationRow]:
    """Rows of the annotations table for one image.

    Args:
        image_id: Of the image.
        segmentation: What the model found.
        categories: The run's table, by id.
        origin: Who found it.
        tasks: What was asked of the model.

    Raises:
        TooManySegmentsError: More segments than ids.
        ValueError: An unknown category, or a segment that does not follow the order of `tasks`.
    """
    if len(segmentation.segments) >= 1 << SEGMENT_BITS:
        raise TooManySegmentsError(
            f"{len(segmentation.segments)} segments, at most {(1 << SEGMENT_BITS) - 1}"
        )
    size = [segmentation.height, segmentation.width]
    base = annotation_id(image_id, 1) - 1
    task, only = tasks[0], len(tasks) == 1
    rows: list[AnnotationRow] = []
    for segment_id, segment in enumerate(segmentation.segments, start=1):
        if segment.category_id not in categories:
            raise ValueError(f"segment of unknown category {segment.category_id}")
        if segment.task != task and not (only and segment.task is None):
            task = _next_task(segment.task, tasks[tasks.index(task) :])
        if not segment.finite:
            raise ValueError("a segment's score is not finite (NaN or infinity)")
        category = categories[segment.category_id]
        seen = segment.evidence or Evidence()
        # An id that is text, or too large for a number, has a column of its own.
        source = seen.source_id
        number = None
        if source is not None and not isinstance(source, str) and abs(source) < 1 << 63:
            number = source
        row: AnnotationRow = {
            "annotation_id": base + segment_id,
            "image_id": image_id,
            "segment_id": segment_id,
            "category_id": category.id,
            "category": category.name,
            "isthing": category.isthing,
            "iscrowd": int(segment.iscrowd),
            "area": segment.area,
            "bbox_xywh": list(segment.bbox_xywh),
            "rle": {"size": size, "counts": segment.counts.decode("ascii")},
            "score": segment.score,
            "tta_agreement": segment.tta_agreement,
            "task": task,
            "prompt": segment.prompt,
            "predicted_iou": seen.predicted_iou,
            "stability_score": seen.stability_score,
            "point_xy": seen.point_xy,
            "crop_xywh": seen.crop_xywh,
            "prompt_bbox_xywh": seen.prompt_bbox_xywh,
            "source_id": number,
            "source_key": None if source is None or number is not None else str(source),
            "visible_fraction": None,
            "locked": None,
            **origin,
        }
        rows.append(row)
    return rows


def _next_task(task: Task | None, tasks: Sequence[Task]) -> Task:
    """A segment's task, if it is one of those that may still come."""
    if task is None or task not in tasks:
        raise ValueError(f"a segment of task {task} where {' or '.join(tasks)} is due")
    return task


def part_name(shard: str, images: Sequence[ImageRow], run: str) -> str:
    """A part's name: a function of the shard, what its images are and the config alone."""
    digest = hashlib.sha256(run.encode())
    for row in images:
        key = (row["file_name"], row["image_id"], row["sha256"], row["error_code"])
        locked = (row["fingerprint"],) if row.get("locked") else ()  # what a person said of it
        digest.update(repr(key + locked).encode())
    return f"{shard}-{digest.hexdigest()[:16]}"


def write_part(
    storage: Storage,
    dataset: str,
    *,
    shard: str,
    run: str,
    images: Sequence[ImageRow],
    annotations: Sequence[AnnotationRow],
    background: frozenset[int] = frozenset(),
    tasks: Sequence[Task] = (),
) -> Part:
    """Writes a shard's two files; the images file last. Writing again changes nothing.

    A worker that was given up for dead may write the same part at the same time. The first file
    stays; where its annotations differ in bytes (GPU arithmetic) they are adopted, so that both
    files always agree.

    Raises:
        StorageError: The files cannot be written.
    """
    name = part_name(shard, images, run)
    annotation_bytes = _parquet(pa.Table.from_pylist(list(annotations), schema=ANNOTATIONS))
    uri = part_uri(dataset, "annotations", name)
    annotation_bytes, standing = _stand(storage, uri, annotation_bytes, ANNOTATIONS)
    if standing is not None:
        annotations = standing.to_pylist()
        images = [_recount(row, annotations, background) for row in images]
    image_bytes = _parquet(pa.Table.from_pylist(list(images), schema=IMAGES))
    uri = part_uri(dataset, "images", name)
    image_bytes, _ = _stand(storage, uri, image_bytes, IMAGES)
    return Part(
        name=name,
        images_sha256=hashlib.sha256(image_bytes).hexdigest(),
        annotations_sha256=hashlib.sha256(annotation_bytes).hexdigest(),
        size=len(image_bytes) + len(annotation_bytes),
        **part_counts(images, annotations, background=background, tasks=tasks),
    )


def _stand(
    storage: Storage, uri: str, data: bytes, schema: pa.Schema
) -> tuple[bytes, pa.Table | None]:
    """Creates a file; the bytes that stand there now, and their table where they are others."""
    if storage.create(uri, data) or (standing := storage.read(uri)) == data:
        return data, None
    table = _table_of(standing, schema)
    if table is None:
        _log.warning("damaged, written anew: %s", uri)
        storage.write(uri, data)
    return (data if table is None else standing), table


def _table_of(data: bytes, schema: pa.Schema) -> pa.Table | None:
    """The table of a whole file of this schema, None for a damaged or another one.

    A machine that fails while it writes may leave a file of the right name and half the bytes.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
        table = file.read()
    except (pa.ArrowException, OSError, ValueError):
        return None
    return table if table.schema.equals(schema) else None


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(
        table, buffer, compression="zstd", row_group_size=65_536, write_page_checksum=True
    )
    return buffer.getvalue()


def _recount(
    row: ImageRow, annotations: Sequence[AnnotationRow], background: frozenset[int]
) -> ImageRow:
    if row["status"] == str(Status.FAILED):
        return row
    own = [item for item in annotations if item["image_id"] == row["image_id"]]
    found = any(item["category_id"] not in background for item in own)
    status = Status.OK if found else Status.EMPTY
    return {**row, "num_segments": len(own), "status": str(status)}
