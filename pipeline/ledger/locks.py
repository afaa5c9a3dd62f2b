"""Locks: what a person said of pictures, kept under the pictures' bytes.

`locks/000001.parquet`, `locks/000002.parquet`, … each hold all locks of a dataset; the last one
counts. A file is made once and never changed, so of two that import at a time one is told to try
again. Whoever labels gives a locked picture the rows of its lock instead of the model's, whatever
the model, as long as its bytes stay what they were.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.errors import StorageError
from pipeline.storage.optional import files_in
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.categories import Categories
from schemas.records import ImageRecord, Task, annotation_id
from schemas.rows import AnnotationRow, ImageRow, LabelledRows
from schemas.tables import LOCKS

from .ledger import Ledger
from .parts import image_row
from .reuse import image_fingerprint

FOLDER = "locks"
MODEL = "review"
"""Column `model` of annotations that a person made."""


@dataclass(frozen=True, slots=True)
class LockedSegment:
    """One region that a person gave a category.

    Attributes:
        category: Its name.
        counts: Compressed RLE string in canonical form.
        area: Pixels, ≥ 1.
        bbox_xywh: Tight box, pixels.
        iscrowd: A region of objects that nobody outlined one by one.
    """

    category: str
    counts: str
    area: int
    bbox_xywh: tuple[int, int, int, int]
    iscrowd: bool = False


@dataclass(frozen=True, slots=True)
class Lock:
    """The labels of one picture, as a person left them.

    Attributes:
        sha256: Of the picture's bytes, hex.
        view: What of the file the picture is, see `view_of`.
        file_names: Names under which the dataset had these bytes.
        task: What the segments answer.
        width: Of the picture, pixels, after EXIF rotation.
        height: Of the same.
        size_bytes: Of its file.
        image_format: "JPEG", …
        exif_orientation: That was applied.
        note: What decoding dropped.
        locked_by: Who.
        locked_at: When, ISO 8601.
        locked_from: What file it came from, with the first digits of its SHA-256.
        segments: All of the picture's.
    """

    sha256: str
    view: str
    file_names: tuple[str, ...]
    task: Task
    width: int
    height: int
    size_bytes: int | None
    image_format: str | None
    exif_orientation: int | None
    note: str | None
    locked_by: str
    locked_at: str
    locked_from: str
    segments: tuple[LockedSegment, ...]

    @property
    def digest(self) -> str:
        """16 hex digits of all that the rows depend on."""
        own = {name: getattr(self, name) for name in self.__slots__ if name != "file_names"}
        return hashlib.sha256(repr(sorted(own.items())).encode()).hexdigest()[:16]

    def rows(
        self, record: ImageRecord, categories: Categories, *, run: str, background: frozenset[int]
    ) -> LabelledRows | None:
        """The image row and the annotation rows.

        Args:
            record: The picture, with its name, id and plane.
            categories: Of the dataset.
            run: Config fingerprint.
            background: Category ids whose segments count as nothing found.

        Returns:
            None where the dataset has not all of the categories.
        """
        table = {item.name: item for item in categories}
        if any(item.category not in table for item in self.segments):
            return None
        segments: list[AnnotationRow] = []
        for number, item in enumerate(self.segments, start=1):
            category = table[item.category]
            segments.append(
                {
                    "annotation_id": annotation_id(record.image_id, number),
                    "image_id": record.image_id,
                    "segment_id": number,
                    "category_id": category.id,
                    "category": category.name,
                    "isthing": category.isthing,
                    "iscrowd": int(item.iscrowd),
                    "area": item.area,
                    "bbox_xywh": list(item.bbox_xywh),
                    "rle": {"size": [self.height, self.width], "counts": item.counts},
                    "score": None,
                    "tta_agreement": None,
                    "task": self.task,
                    "prompt": None,
                    "predicted_iou": None,
                    "stability_score": None,
                    "point_xy": None,
                    "crop_xywh": None,
                    "prompt_bbox_xywh": None,
                    "source_id": None,
                    "source_key": None,
                    "visible_fraction": None,
                    "locked": True,
                    "model": MODEL,
                    "model_revision": self.locked_from,
                    "run": run,
                }
            )
        image = image_row(
            record,
            segments=segments,
            background=background,
            original_hw=(self.height, self.width),
            image_format=self.image_format or "",
            orientation=self.exif_orientation,
            note=self.note or "",
            size_bytes=self.size_bytes,
            sha256=self.sha256,
            fingerprint=image_fingerprint(self.sha256, f"{run} lock {self.digest}"),
        )
        image.update(
            locked=True,
            locked_by=self.locked_by,
            locked_at=self.locked_at,
            locked_from=self.locked_from,
        )
        return image, segments


class LockTable:
    """All locks of a dataset, by the bytes of their pictures.

    Args:
        locks: They.
        name: Of the file that they are from, "" where there is none.
    """

    def __init__(self, locks: Iterable[Lock] = (), name: str = "") -> None:
        self.name = name
        self._locks = {(lock.sha256, lock.view): lock for lock in locks}

    def __len__(self) -> int:
        return len(self._locks)

    def __iter__(self) -> Iterator[Lock]:
        return iter(self._locks.values())

    def get(self, sha256: str, view: str = "") -> Lock | None:
        """The lock of a picture with these bytes, of which it is this."""
        return self._locks.get((sha256, view))

    def by_name(self) -> dict[str, str]:
        """File name → digest of its lock, under all names that the bytes had."""
        return {name: lock.digest for lock in self for name in lock.file_names}

    def with_locks(self, locks: Iterable[Lock]) -> LockTable:
        """These and further ones; of the same bytes the newer counts, and knows all names."""
        merged = dict(self._locks)
        for lock in locks:
            merged[lock.sha256, lock.view] = lock
        return LockTable(merged.values(), self.name)


def read_locks(storage: Storage, dataset: str, name: str | None = None) -> LockTable:
    """The locks of a dataset.

    Args:
        storage: File access.
        dataset: Its URI.
        name: Of a file in `locks/`; None = the last one, "" = none.

    Raises:
        StorageError: They cannot be read.
        ValueError: A file is damaged.
    """
    if name is None:
        name = newest_locks(storage, dataset)
    if not name:
        return LockTable()
    uri = join(dataset, FOLDER, name)
    try:
        table = pq.ParquetFile(io.BytesIO(storage.read(uri))).read()
        return LockTable(map(_lock_of, table.to_pylist()), name)
    except (pa.ArrowException, KeyError, TypeError, OSError) as error:
        if isinstance(error, StorageError):
            raise
        reason = " ".join(str(error).split())
        raise ValueError(f"{uri} is no readable table of locks: {reason}") from error


def newest_locks(storage: Storage, dataset: str) -> str:
    """Name of the file in `locks/` that counts, "" where there is none."""
    names = [entry.path for entry in files_in(storage, join(dataset, FOLDER), recursive=False)]
    return max((name for name in names if name.endswith(".parquet")), default="")


def write_locks(storage: Storage, dataset: str, locks: LockTable) -> str:
    """Makes these the locks of the dataset.

    Returns:
        Name of the new file.

    Raises:
        StorageError: It cannot be written.
        ValueError: Somebody else changed the locks since these were read.
    """
    number = int(locks.name.partition(".")[0] or 0) + 1
    name = f"{number:06d}.parquet"
    rows = [_row_of(lock) for lock in sorted(locks, key=lambda lock: (lock.sha256, lock.view))]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=LOCKS), buffer, compression="zstd")
    data = buffer.getvalue()
    uri = join(dataset, FOLDER, name)
    if not storage.create(uri, data) and storage.read(uri) != data:
        raise ValueError(f"{uri} was made by somebody else in the meantime: import again")
    return name


@dataclass(frozen=True, slots=True)
class LockConflict:
    """A lock that the dataset's current version does not follow.

    Attributes:
        file_name: Of its picture.
        reason: Why, for a person.
    """

    file_name: str
    reason: str


def find_conflicts(locks: LockTable, ledger: Ledger) -> list[LockConflict]:
    """Locks that do not hold in a version: their pictures changed or went, or a category did.

    Args:
        locks: Of the dataset.
        ledger: It.

    Raises:
        StorageError: A part cannot be read.
    """
    if not len(locks):
        return []
    names = {name for lock in locks for name in lock.file_names}
    settings = ledger.manifest.config.get("images", {})
    followed: set[tuple[str, str]] = set()
    found: dict[str, tuple[str | None, str]] = {}
    for table in ledger.images(("file_name", "sha256", "locked", *_PLANE)):
        for row, locked in zip(table.to_pylist(), is_locked(table), strict=True):
            key = row["sha256"], view_of(settings, plane_of(row))
            if locked:
                followed.add(key)
            if row["file_name"] in names:
                found[row["file_name"]] = key
    own, tasks = {item.name for item in ledger.categories}, ledger.manifest.tasks
    conflicts: list[LockConflict] = []
    for lock in locks:
        key = lock.sha256, lock.view
        gone = sorted({item.category for item in lock.segments} - own)
        for name in lock.file_names:
            now = found.get(name, ("", ""))
            if key in followed and now in (key, ("", "")):
                continue  # under this name, or under the one that it has now
            if name not in found:
                reason = "the picture is not in the dataset any more"
            elif now[0] is None:
                reason = "the picture could not be read"
            elif now[0] != lock.sha256:
                reason = (
                    f"its bytes changed since {lock.locked_at}, when {lock.locked_by} locked it"
                )
            elif now[1] != lock.view:
                reason = "another plane, page or size of the file is read now ([images])"
            elif tasks != (lock.task,):
                reason = f"it was corrected for the task {lock.task}, not for {', '.join(tasks)}"
            elif gone:
                reason = f"the dataset has no category {', '.join(map(repr, gone))} any more"
            else:
                reason = "it has not been labelled since it was locked"
            conflicts.append(LockConflict(name, reason))
    return sorted(conflicts, key=lambda item: item.file_name)


_PLANE = ("plane_axis", "plane_index")
_GEOMETRY = ("page", "projection", "series", "time", "level", "mpp")
"""Keys of `[images]` that say which picture of a file is read."""


def view_of(images: Mapping[str, Any], plane: str) -> str:
    """What of a file a picture is: locks of one are none of another.

    Args:
        images: The section `[images]` of the job as plain data.
        plane: "z=3" of one plane of several, "" of the file.

    Returns:
        "" where the file is the picture and nothing was chosen.
    """
    chosen = {name: images[name] for name in _GEOMETRY if images.get(name)}
    words = [f"{name}={value}" for name, value in sorted(chosen.items())]
    return " ".join(filter(None, (plane, *words)))


def plane_of(image: ImageRow) -> str:
    """The plane that an image row is of its file, "" where it is the file."""
    axis = image.get("plane_axis")
    return f"{axis}={image['plane_index']}" if axis else ""


def is_locked(images: pa.Table) -> list[bool]:
    """Whether each image row is a person's; nobody's in tables of schema versions 1 to 3."""
    if "locked" not in images.column_names:
        return [False] * len(images)
    return [bool(value) for value in images["locked"].to_pylist()]


def _row_of(lock: Lock) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: getattr(lock, name) for name in lock.__slots__ if name != "segments"
    }
    segments = [
        {**{name: getattr(item, name) for name in item.__slots__}, "iscrowd": int(item.iscrowd)}
        for item in lock.segments
    ]
    return {**row, "digest": lock.digest, "segments": segments}


def _lock_of(row: Mapping[str, Any]) -> Lock:
    segments = tuple(
        LockedSegment(
            category=item["category"],
            counts=item["counts"],
            area=item["area"],
            bbox_xywh=tuple(item["bbox_xywh"]),
            iscrowd=bool(item["iscrowd"]),
        )
        for item in row["segments"]
    )
    known = {name: row[name] for name in Lock.__slots__ if name not in ("segments", "file_names")}
    return Lock(**known, file_names=tuple(row["file_names"]), segments=segments)
