"""Images of a listing as Arrow columns: what a million of them cost is their names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.storage.uris import join
from schemas.records import ImageRecord

LISTING = pa.schema(
    [
        ("file_name", pa.string()),
        ("uri", pa.string()),
        ("size", pa.int64()),
        ("token", pa.string()),
        ("place", pa.int64()),
        ("item", pa.int32()),
        ("plane", pa.string()),
    ]
)
"""A batch's columns. `uri` and `token` are null where they follow from the batch. `place` is −1
for a whole file, the first byte of a tar's member, or −2 − row of a table. `plane` is null for a
file as a whole."""

_SEED = b"sample 0"
_NO_KEY = bytes(8)
ROWS = 65_536
"""Images a batch, about."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Neighbouring images that lie in one file, or in one folder.

    Attributes:
        base: URI of that file; of the folder that `file_name` is relative to.
        token: Of that file; "" for a folder.
        rows: With the columns of `LISTING`.
    """

    base: str
    token: str
    rows: pa.RecordBatch

    def __len__(self) -> int:
        return self.rows.num_rows

    def records(self) -> Iterator[ImageRecord]:
        """One record an image."""
        return records_of(self.base, self.token, self.rows.to_pylist())

    def first(self, count: int) -> Batch:
        """The first `count` images."""
        return Batch(self.base, self.token, self.rows.slice(0, count))


def records_of(base: str, token: str, rows: Iterable[dict[str, Any]]) -> Iterator[ImageRecord]:
    """Rows of a batch as records."""
    for row in rows:
        place, uri = row["place"], row["uri"]
        if uri is None:
            uri = join(base, row["file_name"]) if place == -1 else base
        yield ImageRecord(
            file_name=row["file_name"],
            uri=uri,
            size=row["size"],
            token=token if row["token"] is None else row["token"],
            offset=max(place, -1),
            row=max(-2 - place, -1),
            item=row["item"],
            plane=row["plane"] or "",
        )


def batch(
    base: str,
    token: str,
    names: Sequence[str],
    *,
    uris: Sequence[str | None] | None = None,
    sizes: Sequence[int] | None = None,
    tokens: Sequence[str | None] | None = None,
    places: Sequence[int] | None = None,
    items: Sequence[int] | None = None,
    planes: Sequence[str | None] | None = None,
) -> Batch:
    """A batch from columns; those that are not given say nothing."""
    count = len(names)
    columns = [
        strings(names),
        nothing(count) if uris is None else strings(uris),
        integers(np.full(count, -1) if sizes is None else sizes),
        nothing(count) if tokens is None else strings(tokens),
        integers(np.full(count, -1) if places is None else places),
        integers(np.full(count, -1) if items is None else items, np.int32),
        nothing(count) if planes is None else strings(planes),
    ]
    return Batch(base, token, pa.RecordBatch.from_arrays(columns, schema=LISTING))


def batches_of(records: Iterable[ImageRecord]) -> Iterator[Batch]:
    """Records as batches, each row with a URI and a token of its own."""
    waiting = iter(records)
    while rows := list(islice(waiting, ROWS)):
        yield batch(
            "",
            "",
            [row.file_name for row in rows],
            uris=[row.uri for row in rows],
            sizes=[row.size for row in rows],
            tokens=[row.token for row in rows],
            places=[row.offset if row.row < 0 else -2 - row.row for row in rows],
            items=[row.item for row in rows],
            planes=[row.plane or None for row in rows],
        )


def listing_keys(base: str, token: str, rows: pa.Table | pa.RecordBatch) -> Any:
    """64 bits of all that a listing says of each image; 0 where it does not tell changed bytes.

    Args:
        base: Of the batch.
        token: Of the batch.
        rows: With the columns of `LISTING`.

    Returns:
        uint64, one a row.
    """
    columns = [rows[name].to_pylist() for name in LISTING.names]
    digests = [
        blake2b(
            f"{name}\0{uri or base}\0{size}\0{said}\0{place}\0{item}\0{plane}".encode(
                "utf-8", "surrogatepass"
            ),
            digest_size=8,
        ).digest()
        if (said := token if own is None else own)
        else _NO_KEY
        for name, uri, size, own, place, item, plane in zip(*columns, strict=True)
    ]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def sampled(batches: Iterable[Batch], count: int) -> list[Batch]:
    """Images by chance, always the same ones, in the order of the listing.

    An image's place in the lot is a keyed hash of its name: a larger sample holds a smaller one,
    and an image that comes or goes moves one other in or out.

    Args:
        batches: All images.
        count: How many are kept; all, where there are fewer.
    """
    given = list(batches)
    lots = np.zeros(sum(map(len, given)), np.uint64)
    at = 0
    for one in given:
        names = one.rows.column("file_name").to_pylist()
        digests = (blake2b(n.encode(), digest_size=8, key=_SEED).digest() for n in names)
        lots[at : at + len(one)] = np.frombuffer(b"".join(digests), ">u8")
        at += len(one)
    kept = np.zeros(len(lots), bool)
    kept[np.argsort(lots, kind="stable")[:count]] = True
    found: list[Batch] = []
    at = 0
    for one in given:
        if (own := kept[at : at + len(one)]).any():
            found.append(Batch(one.base, one.token, one.rows.take(integers(np.flatnonzero(own)))))
        at += len(one)
    return found


def strings(values: Sequence[str | None]) -> pa.Array:
    """A column of strings. Not `pa.array`, which imports pandas to look at a list."""
    valid = None
    if None in values:
        present = np.array([value is not None for value in values])
        valid = pa.py_buffer(np.packbits(present, bitorder="little"))
        values = [value or "" for value in values]
    data = "".join(values).encode()  # type: ignore[arg-type]
    lengths: list[int] = list(map(len, values))  # type: ignore[arg-type]
    if sum(lengths) != len(data):
        lengths = [len(value.encode()) for value in values]  # type: ignore[union-attr]
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    buffers = [valid, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


def nothing(count: int) -> pa.Array:
    """A column of `count` null strings."""
    none = pa.py_buffer(bytes((count + 7) // 8))
    buffers = [none, pa.py_buffer(np.zeros(count + 1, np.int32)), pa.py_buffer(b"")]
    return pa.Array.from_buffers(pa.string(), count, buffers)


def integers(values: Any, dtype: Any = np.int64) -> pa.Array:
    """A column of integers."""
    array = np.ascontiguousarray(values, dtype)
    kind = pa.int32() if dtype is np.int32 else pa.int64()
    return pa.Array.from_buffers(kind, len(array), [None, pa.py_buffer(array)])


def numpy_of(column: pa.Array) -> Any:
    """The values of a column of integers without nulls as a numpy view. `to_numpy` imports
    pandas."""
    dtype = np.int32 if column.type == pa.int32() else np.int64
    found = np.frombuffer(column.buffers()[1], dtype)
    return found[column.offset : column.offset + len(column)]
