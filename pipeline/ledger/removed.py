"""Images that lie in a part of a version and are not in it: they changed since, or are gone."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.storage.errors import MissingError
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.manifest import DatasetManifest
from schemas.tables import REMOVED

FOLDER = "removed"
Ids = npt.NDArray[np.int64]
_compute: Any = pc  # its functions are made at import time, out of a type checker's sight


def write_removed(storage: Storage, dataset: str, removed: Mapping[str, Ids]) -> dict[str, Any]:
    """Writes the table under a name that follows from its contents.

    Args:
        storage: File access.
        dataset: Absolute URI.
        removed: Part → ids of the images that the version does not have in it, in the order of
            the manifest's parts.

    Returns:
        What the manifest says of it; nothing where there are none.

    Raises:
        StorageError: It cannot be written.
    """
    given = {name: np.sort(ids) for name, ids in removed.items() if len(ids)}
    if not given:
        return {}
    sizes = [len(ids) for ids in given.values()]
    names = pa.DictionaryArray.from_arrays(
        pa.array(np.repeat(np.arange(len(given)), sizes)), pa.array(list(given), pa.string())
    ).cast(pa.string())
    ids = pa.array(np.concatenate(list(given.values())))
    table = pa.Table.from_arrays([names, ids], schema=REMOVED)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    data = buffer.getvalue()
    path = f"{FOLDER}/{hashlib.sha256(data).hexdigest()[:32]}.parquet"
    storage.create(join(dataset, path), data)
    return {"table": path, "rows": len(table)}


def read_removed(storage: Storage, dataset: str, manifest: DatasetManifest) -> dict[str, Ids]:
    """Part → ids of the images that this version does not have in it, ascending.

    Raises:
        StorageError: The table that the manifest names cannot be read.
        ValueError: It is no such table, lies elsewhere, or has other rows than the manifest says.
    """
    said = manifest.removed
    if not said:
        return {}
    path = removed_path(manifest)
    try:
        try:
            data = storage.read(join(dataset, path))
        except MissingError:
            data = storage.read(join(dataset, "versions", path))
        table = pq.ParquetFile(io.BytesIO(data)).read()
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, MissingError):
            raise
        raise ValueError(f"{path} is no table of removed rows: {error}") from error
    if not table.schema.equals(REMOVED) or len(table) != said.get("rows"):
        raise ValueError(f"{path} is not the table of removed rows that the manifest names")
    column: Any = table["part"].combine_chunks().dictionary_encode()
    names, codes = column.dictionary.to_pylist(), column.indices.to_numpy()
    ids = table["image_id"].to_numpy()
    borders = np.flatnonzero(np.diff(codes, prepend=-1, append=-1)).tolist()
    return {names[codes[start]]: ids[start:stop] for start, stop in pairwise(borders)}


def removed_path(manifest: DatasetManifest) -> str:
    """Where the table lies, relative to the dataset; "" where there is none.

    Raises:
        ValueError: The manifest names a file elsewhere.
    """
    path = str(manifest.removed.get("table", ""))
    folder, _, name = path.partition("/")
    if path and (folder != FOLDER or "/" in name or name.startswith(".") or not name):
        raise ValueError(f"the manifest names a table of removed rows that is none: {path!r}")
    return path


def without_removed(rows: pa.Table, ids: Ids) -> pa.Table:
    """The rows of a part that a version has.

    Args:
        rows: Of its images or annotations, with `image_id`.
        ids: That the version does not have in it.
    """
    if not len(ids):
        return rows
    gone = _compute.is_in(rows["image_id"], value_set=pa.array(ids, rows["image_id"].type))
    return rows.filter(_compute.invert(gone))
