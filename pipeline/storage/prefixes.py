"""A folder on an object store: a prefix a version, most of whose files stand in earlier ones."""

from __future__ import annotations

import hashlib
import io
import json
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.names import is_below

from .errors import MissingError
from .storage import Storage
from .uris import join, local_path

POINTER = "current.json"
"""Which prefix of the folder is whole, {"prefix": "000002-1f…"}."""
ELSEWHERE = "elsewhere.parquet"
"""Inside a prefix: its files that lie in earlier ones."""
_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("path", "prefix")])
_ROWS = 1 << 16
_AT_ONCE = 16

Keys = npt.NDArray[np.uint64]


class NewPrefix:
    """A prefix while it is written; files that did not change stay where they are.

    Lists the folder once; holds some tens of bytes a file of it.

    Args:
        storage: File access.
        folder: URI of the folder.
        version: Name of the prefix.

    Attributes:
        uri: Of the prefix.
        standing: URI of the prefix that readers are shown, "" where there is none.
    """

    def __init__(self, storage: Storage, folder: str, version: str) -> None:
        self.uri = join(folder, version)
        self._storage, self._folder, self._version = storage, folder, version
        before = shown_prefix(storage, folder)
        self.standing = join(folder, before) if before else ""
        self._stale: list[str] = []
        self._files = self._list(before)
        self._rows: list[tuple[str, str]] = []
        self._table = io.BytesIO()
        self._writer: pq.ParquetWriter | None = None

    def keep(self, uri: str) -> bool:
        """Whether a file of the place is there already, as the version before has it.

        It is a file of the new version then. Not for several threads at once.
        """
        path = uri[len(self.uri) + 1 :]
        prefix = self._files.prefix(path)
        if prefix and prefix != self._version:
            self._rows.append((path, prefix))
            if len(self._rows) == _ROWS:
                self._flush()
        return bool(prefix)

    def show(self) -> None:
        """Makes the prefix the one that readers find, and lets go what the two last do not name."""
        uri = join(self.uri, ELSEWHERE)
        self._flush()
        if self._writer is not None:
            self._writer.close()
            self._storage.write(uri, self._table.getvalue())
        elif self.standing == self.uri:
            self._storage.remove(uri)
        text = json.dumps({"prefix": self._version}) + "\n"
        self._storage.write(join(self._folder, POINTER), text.encode())
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._storage.remove, self._stale))

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._table, _SCHEMA, compression="zstd")
        columns = [pa.array(column, pa.string()) for column in zip(*self._rows, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA))
        self._rows.clear()

    def _list(self, before: str) -> _Places:
        """What the standing prefix shows and is there; notes what neither it nor this one needs."""
        rows = _Places(_read_rows(self._storage, self.standing)) if before else _Places([])
        named = np.sort(rows.whole)
        own, there = array("Q"), array("Q")
        for path in self._paths():
            top, _, inside = path.partition("/")
            if top == before:
                own.append(_key(inside))
            elif _holds(named, key := _key(path)):
                there.append(key)
            elif top != self._version:
                self._stale.append(join(self._folder, path))
        return rows.with_own(before, np.array(own, np.uint64), np.array(there, np.uint64))

    def _paths(self) -> Iterator[str]:
        try:
            for entry in self._storage.list(self._folder, hidden=True):
                if _is_prefix(entry.path.partition("/")[0]) and "/" in entry.path:
                    yield entry.path
        except MissingError:
            return


class FolderFiles:
    """Where the files of a finished folder lie.

    Args:
        storage: File access.
        folder: URI of a folder of `swap.rebuilt`, or of one inside it.
    """

    def __init__(self, storage: Storage, folder: str) -> None:
        self._folder = folder
        parts = folder.split("/")
        found = [n for n, part in enumerate(parts) if _is_prefix(part)]
        if local_path(folder) is not None or not found:
            self._inside, self._rows = "", []
        else:
            at = found[-1]
            self._root, self._inside = "/".join(parts[:at]), "/".join([*parts[at + 1 :], ""])
            self._rows = _read_rows(storage, "/".join(parts[: at + 1]))
        self._places = _Places(self._rows)

    def uri(self, path: str) -> str:
        """Of a file, by its path relative to the folder; of one that is not there, too."""
        prefix = self._places.prefix(self._inside + path)
        return join(self._root, prefix, self._inside, path) if prefix else join(self._folder, path)

    def elsewhere(self) -> Iterator[str]:
        """Paths of the files that do not lie in the folder itself, relative to it."""
        for table in self._rows:
            for path in table["path"].to_pylist():
                if path.startswith(self._inside):
                    yield path[len(self._inside) :]


class _Places:
    """Path → prefix, by 64 bits of the path."""

    def __init__(self, tables: list[pa.Table]) -> None:
        keys, whole, owner = array("Q"), array("Q"), array("H")
        codes: dict[str, int] = {}
        for table in tables:
            for path, prefix in zip(*(column.to_pylist() for column in table.columns), strict=True):
                keys.append(_key(path))
                whole.append(_key(f"{prefix}/{path}"))
                owner.append(codes.setdefault(prefix, len(codes)))
        self.names = list(codes)
        self.whole: Keys = np.array(whole, np.uint64)
        self._set(np.array(keys, np.uint64), np.array(owner, np.uint16))

    def _set(self, keys: Keys, owner: npt.NDArray[np.uint16]) -> None:
        order = np.argsort(keys, kind="stable")
        self._keys, self._owner = keys[order], owner[order]
        self.whole = self.whole[order]

    def with_own(self, prefix: str, own: Keys, there: Keys) -> _Places:
        """These files as far as they are there, and before them those of a prefix itself.

        Args:
            prefix: Its name.
            own: Keys of its paths.
            there: Keys of paths with their prefix.
        """
        kept = np.isin(self.whole, there)
        found = _Places([])
        found.names = [*self.names, prefix]
        found.whole = np.append(np.zeros(len(own), np.uint64), self.whole[kept])
        first = np.full(len(own), len(self.names), np.uint16)
        found._set(np.append(own, self._keys[kept]), np.append(first, self._owner[kept]))
        return found

    def prefix(self, path: str) -> str:
        """Of a file, "" where it is not known."""
        at = int(np.searchsorted(self._keys, key := np.uint64(_key(path))))
        known = at < len(self._keys) and self._keys[at] == key
        return self.names[int(self._owner[at])] if known else ""


def shown_prefix(storage: Storage, folder: str) -> str:
    """Name of the prefix that is whole, "" where there is none."""
    try:
        name = json.loads(storage.read(join(folder, POINTER)))["prefix"]
    except (MissingError, ValueError, KeyError, TypeError):
        return ""
    return name if is_below(name) and _is_prefix(name) else ""


def _read_rows(storage: Storage, uri: str) -> list[pa.Table]:
    """The table of a prefix by row group; none where there is none, or a damaged one.

    What a damaged one named is then written anew.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(storage.read(join(uri, ELSEWHERE))))
        if not file.schema_arrow.equals(_SCHEMA):
            return []
        tables = [file.read_row_group(n) for n in range(file.num_row_groups)]
    except MissingError:
        return []
    except (pa.ArrowException, ValueError, KeyError):
        return []
    strange = [
        one for t in tables for one in t["prefix"].unique().to_pylist() if not _is_prefix(one)
    ]
    return [] if strange else tables


def _is_prefix(name: str) -> bool:
    number, dash, digest = name.partition("-")
    return bool(dash) and len(number) == 6 and number.isdecimal() and digest.isalnum()


def _key(text: str) -> int:
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _holds(keys: Keys, key: int | np.uint64) -> bool:
    """Whether a key is in an ascending array."""
    at = int(np.searchsorted(keys, np.uint64(key)))
    return at < len(keys) and keys[at] == np.uint64(key)
