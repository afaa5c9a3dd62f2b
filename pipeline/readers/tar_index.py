"""What the listing of each tar found, kept so that an unchanged tar is not opened again."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

import pyarrow as pa

from pipeline.storage.errors import MissingError
from pipeline.storage.storage import Entry, Storage
from pipeline.storage.uris import join

from .listing import integers, numpy_of, strings
from .tar_samples import TarImages

_RULES = 1
"""Raise it when the same tar would be listed in another way."""

_COLUMNS = pa.schema([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])


class TarIndex:
    """One Arrow file of all tars of an input, a batch each, by (URI, size, token).

    The last batch is one row, whose name is JSON that says which tars the others are.

    A tar without a token, and one that could not be read, is always looked at again. A file that
    is gone or damaged costs time, nothing else.

    Args:
        storage: File access.
        folder: Where the file is; "" keeps nothing.
        options: What the images of a tar depend on beside its bytes.
    """

    def __init__(self, storage: Storage, folder: str, options: str) -> None:
        name = hashlib.sha256(f"{_RULES} {options}".encode()).hexdigest()[:16]
        self._uri = join(folder, f"tars-{name}.arrow") if folder else ""
        self._storage = storage
        self._file: Any = None
        self._batches: dict[tuple[str, int, str], tuple[int, dict[str, Any]]] = {}
        self._seen: list[tuple[dict[str, Any], int]] = []  # tar, its batch: ~n of the fresh ones
        self._fresh = _Batches()
        self._changed = False
        if self._uri:
            self._open()

    def _open(self) -> None:
        try:
            self._file = pa.ipc.open_file(pa.py_buffer(self._storage.read(self._uri)))
            last = self._file.num_record_batches - 1
            tars = json.loads(self._file.get_batch(last).column(0)[0].as_py())
            self._batches = {
                (tar["uri"], tar["size"], tar["token"]): (at, tar) for at, tar in enumerate(tars)
            }
            if len(tars) != last:
                raise ValueError("the index names other tars than it holds")
        except MissingError:
            self._file = None
        except (ValueError, KeyError, TypeError, OSError):
            self._file, self._batches = None, {}
            self._changed = True

    def get(self, entry: Entry) -> TarImages | None:
        """What was found in this tar when it was listed last; None where it must be opened."""
        found = self._batches.get((entry.uri, entry.size, entry.token))
        if found is None or not entry.token:
            return None
        number, tar = found
        try:
            rows = self._file.get_batch(number)
            return TarImages(
                names=rows.column(0).to_pylist(),
                offsets=numpy_of(rows.column(1)).tolist(),
                sizes=numpy_of(rows.column(2)).tolist(),
                left_out=Counter({(s, r): files for s, r, files in tar["left_out"]}),
                reason=tar["reason"],
            )
        except (ValueError, KeyError, TypeError, OSError):
            del self._batches[entry.uri, entry.size, entry.token]
            self._changed = True
            return None

    def keep(self, entry: Entry, images: TarImages) -> None:
        """Notes what was found in a tar."""
        if not self._uri or not entry.token or (images.reason and not images.names):
            return
        key = (entry.uri, entry.size, entry.token)
        if key in self._batches:
            number, tar = self._batches[key]
            self._seen.append((tar, number))
            return
        tar = {
            "uri": entry.uri,
            "size": entry.size,
            "token": entry.token,
            "reason": images.reason,
            "left_out": [[*key, files] for key, files in sorted(images.left_out.items())],
        }
        self._seen.append((tar, ~self._fresh.count))
        self._fresh.add(images.names, images.offsets, images.sizes)

    def save(self) -> None:
        """Writes the index of the tars that were noted, if it differs from the one that stands."""
        same = not self._fresh.count and len(self._seen) == len(self._batches)
        if not self._uri or (same and not self._changed):
            return
        out, fresh = _Batches(), pa.ipc.open_file(self._fresh.done())
        for _, number in self._seen:
            out.write(fresh.get_batch(~number) if number < 0 else self._file.get_batch(number))
        out.add([json.dumps([tar for tar, _ in self._seen])], [0], [0])
        self._storage.write(self._uri, out.done().to_pybytes())


class _Batches:
    """An Arrow file in memory that grows by compressed batches."""

    def __init__(self) -> None:
        self.count = 0
        self._sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        self._writer = pa.ipc.new_file(self._sink, _COLUMNS, options=options)

    def add(self, names: list[str], offsets: list[int], sizes: list[int]) -> None:
        columns = [strings(names), integers(offsets), integers(sizes)]
        self.write(pa.RecordBatch.from_arrays(columns, schema=_COLUMNS))

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)
        self.count += 1

    def done(self) -> pa.Buffer:
        self._writer.close()
        return self._sink.getvalue()
