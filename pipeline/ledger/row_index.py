"""One file a config: what the listing said of each image, its labels' key, the part of its row."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.records import ImageRecord

from .ledger import part_sizes, read_receipt
from .parts import RETRYABLE, read_part
from .reuse import ReuseIndex
from .views import PARENT, without_copies

FOLDER = "index"
_SCHEMA = pa.schema(
    [
        pa.field("part", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("listing_key", pa.uint64(), nullable=False),
        pa.field("label_key", pa.uint64(), nullable=False),
    ]
)
_COLUMNS = ["image_id", "fingerprint", "error_code", PARENT]

Ids = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


def listing_key(record: ImageRecord) -> int:
    """64 bits of all that a listing says of an image; 0 where it does not tell changed bytes."""
    if not record.token:
        return 0
    said = (
        *(record.file_name, record.uri, record.size, record.token),
        *(record.offset, record.row, record.item, record.plane),
    )
    text = "\0".join(map(str, said)).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little") or 1


@dataclass(frozen=True, slots=True)
class PartRows:
    """The images of one part, copies left out, in its order.

    Attributes:
        image_ids: int64.
        listing_keys: Of each image's record when its bytes were read, uint64; 0 = not known, or
            what came of it may be another thing next time.
        label_keys: First 64 bits of each fingerprint, uint64; 0 = another run should try again.
    """

    image_ids: Ids
    listing_keys: Keys
    label_keys: Keys


def read_rows(
    storage: Storage, dataset: str, name: str, records: Sequence[ImageRecord] = ()
) -> PartRows | None:
    """The images of a part as they lie in its file; None where it is gone or damaged.

    Args:
        storage: File access.
        dataset: Absolute URI.
        name: Of the part.
        records: Of the shard that the part was written for, from the listing before its pictures
            were read; empty where that is not known.
    """
    try:
        rows = without_copies(read_part(storage, dataset, "images", name, _COLUMNS))
        ids = rows["image_id"].to_numpy()
        codes = rows["error_code"].to_pylist()
        labels = [
            int(text[:16], 16) if text and code not in RETRYABLE else 0
            for text, code in zip(rows["fingerprint"].to_pylist(), codes, strict=True)
        ]
    except (StorageError, pa.ArrowException, ValueError, KeyError):
        return None
    said = {record.image_id: record for record in records}
    # What failed is read again: other decoders may be there by then.
    known = [
        listing_key(said[one]) if label and code is None and one in said else 0
        for one, label, code in zip(ids.tolist(), labels, codes, strict=True)
    ]
    return PartRows(ids, np.array(known, np.uint64), np.array(labels, np.uint64))


class RowIndex:
    """What is known of the images of a version, by part: 24 bytes an image.

    It is a note, not data: without it pictures are read and hashed again, no label is lost.
    """

    def __init__(self, parts: Mapping[str, PartRows] | None = None) -> None:
        """Takes the rows of each part; of an image in two parts the first counts."""
        self.parts = dict(parts or {})
        self._names = tuple(self.parts)
        rows = list(self.parts.values())
        ids = _joined([one.image_ids for one in rows], np.int64)
        keys = _joined([one.listing_keys for one in rows], np.uint64)
        owner = np.repeat(np.arange(len(rows)), [len(one.image_ids) for one in rows] or 0)
        order = np.argsort(ids, kind="stable")
        self._ids, self._keys, self._owner = ids[order], keys[order], owner[order]

    def __len__(self) -> int:
        return len(self._ids)

    def standing_parts(self, records: Sequence[ImageRecord]) -> list[str]:
        """Name of the part that has each image's row, "" where its bytes must be read.

        An image's row stands if the listing says of it, to the letter, what it said when the row
        was written.
        """
        if not len(self):
            return [""] * len(records)
        ids = np.array([record.image_id for record in records], np.int64)
        at = np.minimum(np.searchsorted(self._ids, ids), len(self) - 1)
        keys = np.array([listing_key(record) for record in records], np.uint64)
        same = (self._ids[at] == ids) & (self._keys[at] == keys) & (keys != 0)
        owners = self._owner[at]
        return [
            self._names[part] if stands else ""
            for part, stands in zip(owners.tolist(), same.tolist(), strict=True)
        ]

    def labels(self) -> ReuseIndex:
        """The fingerprints alone, for workers that have read a picture."""
        rows = list(self.parts.values())
        keys = _joined([one.label_keys for one in rows], np.uint64)
        owner = np.repeat(
            np.arange(len(rows), dtype=np.int32), [len(one.image_ids) for one in rows] or 0
        )
        keys, owner = keys[keys != 0], owner[keys != 0]
        order = np.argsort(keys, kind="stable")
        return ReuseIndex(keys[order], owner[order], self._names)


def _joined(arrays: Sequence[npt.NDArray[Any]], dtype: Any) -> npt.NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *arrays])


def index_uri(dataset: str, run: str) -> str:
    """URI of the index of a config's last version."""
    return join(dataset, FOLDER, f"{run}.parquet")


def read_index(storage: Storage, dataset: str, run: str) -> RowIndex | None:
    """The index of this config, None where there is none or a damaged one."""
    uri = index_uri(dataset, run)
    try:
        table = pq.ParquetFile(io.BytesIO(storage.read(uri))).read()
        if not table.schema.equals(_SCHEMA):
            return None
        column: Any = table["part"].combine_chunks()
        names = column.dictionary.to_pylist()
        codes = column.indices.to_numpy()
        arrays = [table[name].to_numpy() for name in _SCHEMA.names[1:]]
    except (StorageError, pa.ArrowException, OSError, ValueError):
        return None
    borders = np.flatnonzero(np.diff(codes, prepend=-1, append=-1)).tolist()
    found: dict[str, PartRows] = {}
    for start, stop in pairwise(borders):
        found[names[codes[start]]] = PartRows(*(array[start:stop] for array in arrays))
    return RowIndex(found)


def write_index(storage: Storage, dataset: str, run: str, index: RowIndex) -> None:
    """Replaces the index of this config.

    Raises:
        StorageError: It cannot be written.
    """
    rows = list(index.parts.values())
    codes = np.repeat(np.arange(len(rows)), [len(one.image_ids) for one in rows] or 0)
    columns = [
        pa.DictionaryArray.from_arrays(
            pa.array(codes, pa.int32()), pa.array(list(index.parts), pa.string())
        ),
        pa.array(_joined([one.image_ids for one in rows], np.int64)),
        pa.array(_joined([one.listing_keys for one in rows], np.uint64)),
        pa.array(_joined([one.label_keys for one in rows], np.uint64)),
    ]
    buffer = io.BytesIO()
    table = pa.Table.from_arrays(columns, schema=_SCHEMA)
    # Hashes do not compress; a part's name is one run of its dictionary.
    pq.write_table(table, buffer, compression="zstd")
    storage.write(index_uri(dataset, run), buffer.getvalue())


def read_parts(
    storage: Storage, dataset: str, wanted: Mapping[str, Callable[[], Sequence[ImageRecord]]]
) -> dict[str, PartRows]:
    """The rows of these parts, several at a time; those that are gone are left out.

    Args:
        storage: File access.
        dataset: Absolute URI.
        wanted: Part → gives the records of its shard, or none where they are not known.
    """

    def read(item: tuple[str, Callable[[], Sequence[ImageRecord]]]) -> PartRows | None:
        return read_rows(storage, dataset, item[0], item[1]())

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(read, wanted.items()))
    return {name: rows for name, rows in zip(wanted, found, strict=True) if rows is not None}


def known_rows(storage: Storage, dataset: str, run: str) -> RowIndex:
    """What is known of the images that this config has labelled before.

    That is the index of its last version, and the parts that lie beside it: a run that was killed
    left them. Where there is no index, as in a dataset of an earlier program, all parts of the
    config that have a receipt are read.
    """
    index = read_index(storage, dataset, run)
    if index is None:
        folder = join(dataset, "receipts")
        uris = [entry.uri for entry in storage.list(folder)] if storage.exists(folder) else []
        with ThreadPoolExecutor(16) as pool:
            receipts = list(pool.map(lambda uri: read_receipt(storage, uri), uris))
        left = sorted({one.part.name for one in receipts if one is not None and one.run == run})
    else:
        there = part_sizes(storage, dataset)["images"]
        left = sorted(name for name in there if name not in index.parts)
    if not left:
        return index or RowIndex()
    found = read_parts(storage, dataset, dict.fromkeys(left, tuple))
    return RowIndex({**(index.parts if index else {}), **found})
