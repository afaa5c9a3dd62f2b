"""The image list of a run, and its deterministic cut into shards."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.readers.listing import (
    LISTING,
    ROWS,
    Batch,
    batches_of,
    integers,
    listing_keys,
    numpy_of,
    records_of,
)
from schemas.records import ImageRecord

from .image_ids import assign_copy_ids, assign_image_ids

_CUT_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: spreads ids over the high bits


@dataclass(frozen=True, slots=True)
class Shard:
    """A run of neighbouring images in the listing.

    Attributes:
        id: Of its first image, eight hex digits: an insert elsewhere does not rename it.
        start: First row in the listing.
        stop: One past the last row.
        token: Fingerprint of its rows in the listing and of the config.
    """

    id: str
    start: int
    stop: int
    token: str

    def __len__(self) -> int:
        return self.stop - self.start


class Listing:
    """All input images as Arrow columns: ten million rows cost about a gigabyte, not ten.

    Args:
        records: In the order of the listing.
        image_id: File name → the id that a file of prompts gives the image, or None. Taken where
            every image has one and no two the same.
        copies: Augmented copies of each image that ids are reserved for.

    Raises:
        ValueError: Two images have the same file_name, or there are too many copies.
    """

    def __init__(
        self,
        records: Iterable[ImageRecord],
        *,
        image_id: Callable[[str], int | None] | None = None,
        copies: int = 0,
    ) -> None:
        self._fill(batches_of(records), 0, image_id, copies)

    @classmethod
    def of(
        cls,
        batches: Iterable[Batch],
        *,
        limit: int = 0,
        copies: int = 0,
    ) -> Listing:
        """From what a reader lists; `limit`: the first N images only, 0 = all."""
        listing = cls.__new__(cls)
        listing._fill(batches, limit, None, copies)
        return listing

    def _fill(
        self,
        batches: Iterable[Batch],
        limit: int,
        image_id: Callable[[str], int | None] | None,
        copies: int,
    ) -> None:
        self._starts: list[int] = []  # first row of each stretch of one base
        self._bases: list[tuple[str, str]] = []
        chunks = _Chunks()
        for batch in batches:
            rest = limit - chunks.rows if limit else len(batch)
            taken = batch if len(batch) <= rest else batch.first(rest)
            if not self._bases or self._bases[-1] != (batch.base, batch.token):
                self._starts.append(chunks.rows)
                self._bases.append((batch.base, batch.token))
            chunks.add(taken.rows)
            if limit and chunks.rows >= limit:
                break
        self.table = chunks.table()
        self.image_ids = assign_image_ids(self.table["file_name"])
        self._copies = copies
        self.copy_ids = assign_copy_ids(self.image_ids, copies)
        if image_id is not None:
            self.take_ids(image_id)

    def take_ids(self, image_id: Callable[[str], int | None]) -> None:
        """Gives the images the ids of a file of prompts, if each has one and no two the same.

        Args:
            image_id: File name → id, or None.

        Raises:
            ValueError: There are too many copies for them.
        """
        given = [image_id(name) for name in self.table["file_name"].to_pylist()]
        if None not in given and len(set(given)) == len(given):
            self.image_ids = np.array(given, self.image_ids.dtype)
            self.copy_ids = assign_copy_ids(self.image_ids, self._copies)

    def __len__(self) -> int:
        return self.table.num_rows

    def records(self, shard: Shard) -> list[ImageRecord]:
        """The shard's images, with ids."""
        ids = self.image_ids[shard.start : shard.stop].tolist()
        copies = self.copy_ids[shard.start : shard.stop].tolist()
        rows = self._records(shard.start, shard.stop)
        return [
            replace(row, image_id=i, copy_ids=tuple(own))
            for row, i, own in zip(rows, ids, copies, strict=True)
        ]

    def keys(self, start: int = 0, stop: int | None = None) -> npt.NDArray[np.uint64]:
        """`listing_keys` of the images from `start` to before `stop`."""
        stop = len(self) if stop is None else stop
        found = [np.empty(0, np.uint64)]
        for at, first, last in self._stretches(start, stop):
            for row in range(first, last, ROWS):  # in Python's objects a block at a time
                rows = self.table.slice(row, min(ROWS, last - row))
                found.append(listing_keys(*self._bases[at], rows))
        return np.concatenate(found)

    def take(self, rows: npt.NDArray[np.int64]) -> Listing:
        """The images of these rows, ascending, with the ids that they have here."""
        found = copy(self)
        found.table = self.table.take(integers(rows))
        found.image_ids, found.copy_ids = self.image_ids[rows], self.copy_ids[rows]
        place = np.searchsorted(np.array(self._starts), rows, side="right") - 1
        first = np.flatnonzero(np.diff(place, prepend=-1))
        found._starts = first.tolist()
        found._bases = [self._bases[at] for at in place[first].tolist()]
        return found

    def record(self, image_id: int) -> ImageRecord:
        """The image of this id.

        Raises:
            KeyError: There is none.
        """
        found = np.flatnonzero(self.image_ids == image_id)
        if not len(found):
            raise KeyError(image_id)
        row = int(found[0])
        return replace(self._records(row, row + 1)[0], image_id=image_id)

    def _records(self, start: int, stop: int) -> list[ImageRecord]:
        found: list[ImageRecord] = []
        for at, first, last in self._stretches(start, stop):
            rows = self.table.slice(first, last - first).to_pylist()
            found += records_of(*self._bases[at], rows)
        return found

    def _stretches(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """(index of the base, first row, one past the last row) of each base on the way."""
        while start < stop:
            at = bisect_right(self._starts, start) - 1
            until = min([stop, *self._starts[at + 1 : at + 2]])
            yield at, start, until
            start = until

    def shards(self, *, run: str, mean_size: int = 0, mark: str = "") -> list[Shard]:
        """Cuts the listing where the images' own ids say so (content-defined chunking).

        An image that comes or goes moves the borders of its own shard only. Shards hold a quarter
        to twice the mean and never cross a tar or Parquet file. The result depends on the listing
        and the arguments, not on who runs it.

        Args:
            run: Config fingerprint, part of every token.
            mean_size: Images a shard on average, 0 = `automatic_size`.
            mark: Begins the shards' ids. With one, shards may cross tars and Parquet files: of
                what changed here and there, each holds too little for a shard of its own.
        """
        count = len(self)
        if not count:
            return []
        mean = mean_size or automatic_size(count)
        shortest, longest = max(1, mean // 4), mean * 2
        containers = self._containers()
        mixed = (self.image_ids.astype(np.uint64) * _CUT_MIX) >> np.uint64(32)
        natural = mixed % np.uint64(max(1, mean - shortest)) == 0
        forced = np.zeros(count, bool)
        forced[1:] = (containers[1:] != containers[:-1]) & (not mark)
        candidates = np.flatnonzero(natural | forced)
        borders = [0]
        for at in candidates.tolist():
            while at - borders[-1] > longest:
                borders.append(borders[-1] + longest)
            if forced[at] or at - borders[-1] >= shortest:
                borders.append(at)
        while count - borders[-1] > longest:
            borders.append(borders[-1] + longest)
        borders.append(count)
        borders = sorted(set(borders))
        return [
            Shard(f"{mark}{int(self.image_ids[a]):08x}", a, b, self._token(a, b, run))
            for a, b in pairwise(borders)
        ]

    def _containers(self) -> npt.NDArray[np.int64]:
        """A number per row that changes with the tar or Parquet file; 0 for whole files."""
        inside = _integers(self.table["place"]) != -1
        stretches = np.diff(np.array([*self._starts, len(self)]))
        number: dict[tuple[str, str], int] = {}
        codes = np.array([number.setdefault(base, len(number) + 1) for base in self._bases])
        found = np.where(inside, np.repeat(codes, stretches), 0)
        if ("", "") in number:  # records that were given one by one say where each lies
            uris = self.table["uri"].to_pylist()
            each = {uri: len(number) + n for n, uri in enumerate(dict.fromkeys(uris), 1)}
            found = np.where(inside, [each[uri] for uri in uris], 0)
        return found

    def _token(self, start: int, stop: int, run: str) -> str:
        digest = hashlib.sha256(run.encode())
        for at in range(bisect_right(self._starts, start) - 1, len(self._starts)):
            if self._starts[at] >= stop:
                break
            begin = max(self._starts[at], start)
            digest.update(f"{begin - start} {self._bases[at]}".encode())
        part = self.table.slice(start, stop - start)
        for name in ("file_name", "uri", "token"):
            _digest_strings(digest, part[name])
            digest.update(b"\1")
        for name in ("size", "place", "item"):
            digest.update(_integers(part[name]).astype("<i8").tobytes())
        digest.update(self.image_ids[start:stop].astype("<i8").tobytes())
        digest.update(self.copy_ids[start:stop].astype("<i8").tobytes())
        return digest.hexdigest()[:24]


def _digest_strings(digest: Any, column: pa.ChunkedArray) -> None:
    """Lengths, then text; however the column is cut."""
    texts = []
    for chunk in column.chunks:
        _, offsets, data = chunk.buffers()
        bounds = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        digest.update(np.diff(bounds).astype("<i4").tobytes())
        texts.append(memoryview(data or b"")[bounds[0] : bounds[-1]])
    for text in texts:
        digest.update(text)


class _Chunks:
    """Batches of a listing, small ones put together: a batch of its own costs kilobytes."""

    def __init__(self) -> None:
        self.rows = 0
        self._done: list[pa.RecordBatch] = []
        self._small: list[pa.RecordBatch] = []
        self._waiting = 0

    def add(self, batch: pa.RecordBatch) -> None:
        self.rows += batch.num_rows
        self._small.append(batch)
        self._waiting += batch.num_rows
        if self._waiting >= ROWS:
            self._join()

    def table(self) -> pa.Table:
        self._join()
        return pa.Table.from_batches(self._done, schema=LISTING)

    def _join(self) -> None:
        if len(self._small) > 1:
            joined = pa.Table.from_batches(self._small, schema=LISTING).combine_chunks()
            self._done += joined.to_batches()
        else:
            self._done += self._small
        self._small, self._waiting = [], 0


def _integers(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """A column of integers as one array."""
    found = [numpy_of(chunk) for chunk in column.chunks]
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def automatic_size(images: int) -> int:
    """Mean images a shard for a run: a power of two, about 1/32 of all, 4…512.

    Powers of two, so that a growing input recuts its shards only when it doubles.
    """
    return int(min(512, max(4, 2 ** int(np.log2(max(images / 32, 1))))))
