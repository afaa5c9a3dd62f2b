"""The containers table: how each tar, table and list of the input ended."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.containers import Container, LeftOut
from schemas.manifest import DatasetManifest
from schemas.tables import CONTAINERS

FOLDER = "containers"


def write_containers(
    storage: Storage, dataset: str, containers: Sequence[Container]
) -> dict[str, Any]:
    """Writes the table under a name that follows from its contents.

    Returns:
        What the manifest says of it; nothing where there are no containers.

    Raises:
        StorageError: It cannot be written.
    """
    if not containers:
        return {}
    rows = [{key: _text(value) for key, value in asdict(one).items()} for one in containers]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, CONTAINERS), buffer, compression="zstd")
    data = buffer.getvalue()
    path = f"{FOLDER}/{hashlib.sha256(data).hexdigest()[:32]}.parquet"
    storage.create(join(dataset, path), data)
    counts = Counter(one.status for one in containers)
    return {"table": path, **{status: counts[status] for status in ("ok", "partial", "failed")}}


def read_containers(storage: Storage, dataset: str, manifest: DatasetManifest) -> list[Container]:
    """The rows of the table that a manifest names.

    Raises:
        StorageError: It cannot be read.
        ValueError: It is no such table, or lies elsewhere.
    """
    path = str(manifest.containers.get("table", ""))
    if not path:
        return []
    folder, _, name = path.partition("/")
    if folder != FOLDER or "/" in name or name.startswith("."):
        raise ValueError(f"the manifest names a table of containers that is none: {path!r}")
    try:
        table = pq.ParquetFile(io.BytesIO(storage.read(join(dataset, path)))).read()
        return [Container(**row) for row in table.select(CONTAINERS.names).to_pylist()]
    except (pa.ArrowException, KeyError) as error:
        raise ValueError(f"{path} is no table of containers: {error}") from error


def left_out_json(left_out: Iterable[LeftOut]) -> tuple[dict[str, Any], ...]:
    """What the manifest says of files that are no input."""
    return tuple({key: _text(value) for key, value in asdict(one).items()} for one in left_out)


def _text(value: Any) -> Any:
    """Names of other encodings come as surrogates, which no table can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value
