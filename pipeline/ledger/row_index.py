"""One file a config: what the listing said of each image, its labels' key, the part of its row."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.errors import StorageError
from pipeline.storage.optional import files_in
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.records import ErrorCode

from .parts import RETRYABLE, TRIED_AGAIN, read_part
from .receipts import read_receipt
from .reuse import ReuseIndex
from .views import PARENT, without_copies

FOLDER = "index"
_SCHEMA = pa.schema(
    [
        pa.field("part", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("listing_key", pa.uint64(), nullable=False),
        pa.field("label_key", pa.uint64(), nullable=False),
        pa.field("state", pa.uint8(), nullable=False),
    ]
)
_ABOUT, _VERSION = b"about", b"version"
_COLUMNS = ["image_id", "fingerprint", "error_code", PARENT]
_DAMAGED = {ErrorCode.TRUNCATED, ErrorCode.DECODE_ERROR}

Ids = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


class RowState(IntEnum):
    """What came of an image, as far as the next run must know."""

    LABELLED = 0
    FAILED = 1
    FAILED_FOR_NOW = 2
    """`--retry-failed` asks for another try."""
    DOUBTFUL = 3
    """A store may have sent damaged bytes: to be looked at once more."""


@dataclass(frozen=True, slots=True)
class PartRows:
    """The images of one part, copies left out, in its order.

    Attributes:
        image_ids: int64.
        listing_keys: What was listed of each when its bytes were read, `listing_keys`; 0 = not
            known.
        label_keys: First 64 bits of each fingerprint, uint64; 0 = another run should try again.
        states: `RowState`, uint8.
    """

    image_ids: Ids
    listing_keys: Keys
    label_keys: Keys
    states: npt.NDArray[np.uint8]

    def only(self, mask: npt.NDArray[np.bool_]) -> PartRows:
        """The rows where the mask says so."""
        return PartRows(
            self.image_ids[mask],
            self.listing_keys[mask],
            self.label_keys[mask],
            self.states[mask],
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """A part whose rows are to be known.

    Attributes:
        image_ids: Of the shard that it was written for; empty where that is not known.
        listing_keys: Of the same, listed before its pictures were read.
        once_more: Whether what was damaged on the way is to be looked at once more.
    """

    image_ids: Ids = field(default_factory=lambda: np.empty(0, np.int64))
    listing_keys: Keys = field(default_factory=lambda: np.empty(0, np.uint64))
    once_more: bool = False


def read_rows(storage: Storage, dataset: str, name: str, wanted: Wanted) -> PartRows | None:
    """The images of a part as they lie in its file; None where it is gone or damaged."""
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
    keys = np.zeros(len(ids), np.uint64)
    if len(wanted.image_ids):
        order = np.argsort(wanted.image_ids)
        sorted_ids = wanted.image_ids[order]
        at = order[np.minimum(np.searchsorted(sorted_ids, ids), len(order) - 1)]
        keys = np.where(wanted.image_ids[at] == ids, wanted.listing_keys[at], np.uint64(0))
    states = [_state(code, once_more=wanted.once_more) for code in codes]
    return PartRows(ids, keys, np.array(labels, np.uint64), np.array(states, np.uint8))


def _state(code: str | None, *, once_more: bool) -> RowState:
    if code is None:
        return RowState.LABELLED
    if once_more and code in _DAMAGED:
        return RowState.DOUBTFUL
    return RowState.FAILED_FOR_NOW if code in TRIED_AGAIN else RowState.FAILED


class RowIndex:
    """What is known of the images of a version, by part: 25 bytes an image.

    It is a note, not data: without it pictures are read and hashed again, no label is lost.

    Attributes:
        names: The parts.
        parts: Part → its rows.
        about: What else the version's rows depended on (`WorkerSpec.about`); "" = not known.
    """

    def __init__(self, parts: Mapping[str, PartRows] | None = None, about: str = "") -> None:
        """Takes the rows of each part; of an image in two parts the first counts."""
        self.parts = dict(parts or {})
        self.names = tuple(self.parts)
        self.about = about
        rows = list(self.parts.values())
        ids = _joined([one.image_ids for one in rows], np.int64)
        order = np.argsort(ids, kind="stable")
        self._ids = ids[order]
        self._keys = _joined([one.listing_keys for one in rows], np.uint64)[order]
        self._states = _joined([one.states for one in rows], np.uint8)[order]
        owner = np.repeat(np.arange(len(rows)), [len(one.image_ids) for one in rows] or 0)
        self._owner = owner[order]

    def __len__(self) -> int:
        return len(self._ids)

    def find(self, image_ids: Ids, keys: Keys) -> tuple[Ids, npt.NDArray[np.uint8]]:
        """Where the row of each image is, of which the listing says what it said before.

        Args:
            image_ids: N ids.
            keys: Their `listing_keys` now.

        Returns:
            Place in `names`, −1 where the listing says something else or there is no row; and
            `RowState` of those that were found.
        """
        if not len(self):
            return np.full(len(image_ids), -1), np.zeros(len(image_ids), np.uint8)
        at = np.minimum(np.searchsorted(self._ids, image_ids), len(self) - 1)
        same = (self._ids[at] == image_ids) & (self._keys[at] == keys) & (keys != 0)
        return np.where(same, self._owner[at], -1), self._states[at]

    def standing_parts(self, image_ids: Ids, keys: Keys) -> list[str]:
        """Name of the part that has each image's row, "" where its bytes must be read.

        What failed is read again where its shard is: other decoders may be there by then.
        """
        owner, states = self.find(image_ids, keys)
        owner = np.where(states == RowState.LABELLED, owner, -1)
        return [self.names[part] if part >= 0 else "" for part in owner.tolist()]

    def labels(self) -> ReuseIndex:
        """The fingerprints alone, for workers that have read a picture."""
        rows = list(self.parts.values())
        keys = _joined([one.label_keys for one in rows], np.uint64)
        owner = np.repeat(
            np.arange(len(rows), dtype=np.int32), [len(one.image_ids) for one in rows] or 0
        )
        keys, owner = keys[keys != 0], owner[keys != 0]
        order = np.argsort(keys, kind="stable")
        return ReuseIndex(keys[order], owner[order], self.names)


def _joined(arrays: Sequence[npt.NDArray[Any]], dtype: Any) -> npt.NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *arrays])


def index_uri(dataset: str, run: str) -> str:
    """URI of the index of a config's last version."""
    return join(dataset, FOLDER, f"{run}.parquet")


def read_index(storage: Storage, dataset: str, run: str) -> RowIndex | None:
    """The index of this config, None where there is none or a damaged one."""
    uri = index_uri(dataset, run)
    try:
        data = io.BytesIO(storage.read(uri))
        table = pq.ParquetFile(data, page_checksum_verification=True).read()
        if not table.schema.equals(_SCHEMA):
            return None
        about = (table.schema.metadata or {}).get(_ABOUT, b"").decode()
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
    return RowIndex(found, about)


def index_covers(
    storage: Storage, dataset: str, run: str, names: Iterable[str], removed: int, about: str
) -> bool:
    """Whether the index of this config is that of these parts; its footer alone is read.

    Args:
        storage: File access.
        dataset: Absolute URI.
        run: The config.
        names: Of the parts, in order.
        removed: Rows that the version does not have in them.
        about: Of the index.
    """
    try:
        with storage.open(index_uri(dataset, run), from_end=True) as file:
            said = pq.ParquetFile(file).schema_arrow.metadata or {}
    except (StorageError, pa.ArrowException, OSError, ValueError):
        return False
    return said.get(_VERSION) == _digest(names, removed, about).encode()


def _digest(names: Iterable[str], removed: int, about: str) -> str:
    return hashlib.sha256("\n".join([about, str(removed), *names]).encode()).hexdigest()


def write_index(
    storage: Storage, dataset: str, run: str, index: RowIndex, removed: int = 0
) -> None:
    """Replaces the index of this config.

    Args:
        storage: File access.
        dataset: Absolute URI.
        run: The config.
        index: What is known.
        removed: Rows that the version does not have in its parts.

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
        pa.array(_joined([one.states for one in rows], np.uint8)),
    ]
    buffer = io.BytesIO()
    table = pa.Table.from_arrays(columns, schema=_SCHEMA)
    said = {_ABOUT: index.about, _VERSION: _digest(index.names, removed, index.about)}
    table = table.replace_schema_metadata(said)
    # Hashes do not compress; a part's name is one run of its dictionary.
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    storage.write(index_uri(dataset, run), buffer.getvalue())


def read_parts(
    storage: Storage, dataset: str, wanted: Mapping[str, Callable[[], Wanted]]
) -> dict[str, PartRows]:
    """The rows of these parts, several at a time; those that are gone are left out.

    Args:
        storage: File access.
        dataset: Absolute URI.
        wanted: Part → gives what is known of its shard; `Wanted` itself knows nothing.
    """

    def read(item: tuple[str, Callable[[], Wanted]]) -> PartRows | None:
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
        uris = [entry.uri for entry in files_in(storage, join(dataset, "receipts"))]
        with ThreadPoolExecutor(16) as pool:
            receipts = list(pool.map(lambda uri: read_receipt(storage, uri), uris))
        left = sorted({one.part.name for one in receipts if one is not None and one.run == run})
    else:
        there = files_in(storage, join(dataset, "images"), recursive=False)
        names = (entry.path.removesuffix(".parquet") for entry in there)
        left = sorted(name for name in names if name not in index.parts)
    if not left:
        return index or RowIndex()
    found = read_parts(storage, dataset, dict.fromkeys(left, Wanted))
    return RowIndex({**(index.parts if index else {}), **found}, index.about if index else "")
