"""Shards: series of files of about so many bytes, one series a split, each published whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

import numpy as np
import numpy.typing as npt

from pipeline.ledger.ledger import Ledger
from pipeline.masks.codec import mask_window
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.rows import AnnotationRow, ImageRow, size_of

from .json_write import staged_file
from .pictures import PICTURE_COLUMNS, Pictures, picture_job
from .threads import bounded_map
from .tree import labelled_images

SEGMENT_COLUMNS = (
    "segment_id", "annotation_id", "category_id", "category", "isthing", "iscrowd", "area",
    "bbox_xywh", "score", "rle",
)  # fmt: skip


class ShardFile(Protocol):
    """One open shard."""

    def add(self, sample: Any) -> int:
        """Takes in a sample; returns its bytes, about."""
        ...

    def close(self) -> None:
        """Writes what is left; the file itself is closed by others."""
        ...


@dataclass(slots=True)
class _Series:
    number: int = 0
    stack: ExitStack | None = None
    shard: ShardFile | None = None
    size: int = 0
    samples: int = 0


class Shards:
    """Writes samples in order; a context that publishes what is open when it ends well."""

    def __init__(
        self,
        storage: Storage,
        out: str,
        pattern: str,
        limit: int,
        begin: Callable[[BinaryIO], ShardFile],
    ) -> None:
        """Begins with no shard.

        Args:
            storage: File access.
            out: URI of the folder.
            pattern: Path of a shard with {split} and {number}.
            limit: Bytes after which the next sample begins a new shard.
            begin: Opens a shard on a file.
        """
        self._storage = storage
        self._out = out
        self._pattern = pattern
        self._limit = limit
        self._begin = begin
        self._series: dict[str, _Series] = {}
        self.written: list[tuple[str, int]] = []
        """Path and samples of every finished shard."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for split, series in sorted(self._series.items()):
            if series.stack is None:
                continue
            if kind is None:
                self._finish(split, series)
            else:
                series.stack.__exit__(kind, error, trace)
        self.written.sort()

    def add(self, split: str, sample: Any) -> None:
        """Puts a sample into the split's current shard.

        Raises:
            StorageError: A finished shard cannot be published.
        """
        series = self._series.setdefault(split, _Series())
        if series.stack is None:
            series.stack = ExitStack()
            uri = join(self._out, self._path(split, series))
            file = series.stack.enter_context(staged_file(self._storage, uri))
            series.shard = self._begin(file)
        if series.shard is not None:
            series.size += series.shard.add(sample)
            series.samples += 1
        if series.size >= self._limit:
            self._finish(split, series)

    def _path(self, split: str, series: _Series) -> str:
        return self._pattern.format(split=split, number=series.number)

    def _finish(self, split: str, series: _Series) -> None:
        if series.stack is None or series.shard is None:
            return
        with series.stack:
            series.shard.close()
        self.written.append((self._path(split, series), series.samples))
        self._series[split] = _Series(number=series.number + 1)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image ready to be written.

    Attributes:
        row: Of the images table.
        segments: Rows of the annotations table.
        picture: The upright picture's file; b"" where samples are only compared.
        mask: PNG whose colour is the segment's id: R + 256·G + 65536·B, 0 = none.
    """

    row: ImageRow
    segments: list[AnnotationRow]
    picture: bytes
    mask: bytes


def samples_of(
    ledger: Ledger, pictures: Pictures | None, encode: Callable[[Any], bytes], *, suffix: str = ""
) -> Iterator[Sample]:
    """Every image that was looked at, made on threads, in order.

    Args:
        ledger: Of one task.
        pictures: None to leave the pictures out.
        encode: HxW int32 ids → the bytes of the mask's PNG.
        suffix: As for `Pictures.upright`.
    """

    def jobs() -> Iterator[tuple[Callable[[], bytes], ImageRow, list[AnnotationRow]]]:
        for row, items in labelled_images(ledger, PICTURE_COLUMNS, SEGMENT_COLUMNS):
            yield picture_job(pictures, row, suffix=suffix), row, items

    def make(job: tuple[Callable[[], bytes], ImageRow, list[AnnotationRow]]) -> Sample:
        picture, row, items = job
        ids = painted_ids(items, *size_of(row))
        return Sample(row, items, picture(), encode(ids))

    return bounded_map(make, jobs())


def painted_ids(items: Sequence[AnnotationRow], height: int, width: int) -> npt.NDArray[np.int32]:
    """HxW segment ids, 0 = none; where segments overlap the higher score lies on top.

    Raises:
        ValueError: A mask is malformed or of another picture.
    """
    canvas = np.zeros((height, width), np.int32)
    for item in sorted(items, key=lambda item: (item["score"] or 0.0, -item["segment_id"])):
        x, y, w, h = item["bbox_xywh"]
        counts = item["rle"]["counts"].encode()
        inside = mask_window(counts, height, width, (x, y, x + w, y + h)).astype(bool)
        canvas[y : y + h, x : x + w][inside] = item["segment_id"]
    return canvas
