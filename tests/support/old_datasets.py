"""Datasets as earlier programs wrote them: the columns and keys of schema versions 1 to 3."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.ledger.ledger import Ledger
from schemas.tables import schema_of

_KEYS_OF_4 = ("containers", "left_out", "prompt_counts", "removed")


def as_version(ledger: Ledger, version: int) -> str:
    """Rewrites a local dataset of this program in the layout of an earlier schema version.

    Returns:
        The text of its manifest.
    """
    root = Path(ledger.uri)
    data = json.loads(ledger.manifest.to_json())
    data["schema_version"] = version
    for key in _KEYS_OF_4:
        data.pop(key, None)
    if version == 1:
        (data["task"],) = data.pop("tasks")
    for part in data["parts"]:
        part["size"] = 0
        for table in ("images", "annotations"):
            path = root / table / f"{part['name']}.parquet"
            schema = schema_of(table, version)
            old = pq.read_table(path).select(schema.names).replace_schema_metadata(schema.metadata)
            pq.write_table(old, path)
            part[f"{table}_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
            part["size"] += path.stat().st_size
    text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    (root / "manifest.json").write_text(text)
    (root / "versions" / "000001.json").write_text(text)
    for later in ("index", "containers", "exports", "report"):
        shutil.rmtree(root / later, ignore_errors=True)
    return text


def as_another_config(ledger: Ledger, run: str) -> None:
    """Gives a local dataset the fingerprint of a config that no program has now.

    So it is in a dataset of an earlier schema version, which is part of that fingerprint: it is in
    the names of parts and receipts, in each row's `fingerprint` and in the column `run`.
    """
    root = Path(ledger.uri)
    texts = [root / "manifest.json", *root.glob("versions/*.json"), *root.glob("receipts/*.json")]
    for part in ledger.manifest.parts:
        new = _otherwise(part.name)
        images, annotations = (root / t / f"{part.name}.parquet" for t in ("images", "annotations"))
        keys = pq.read_table(images)["fingerprint"].to_pylist()
        _rewrite(images, "fingerprint", [_otherwise(key) for key in keys])
        _rewrite(annotations, "run", [run] * pq.read_metadata(annotations).num_rows)
        size = images.stat().st_size + annotations.stat().st_size
        changes = {
            part.name: new,
            part.images_sha256: hashlib.sha256(images.read_bytes()).hexdigest(),
            part.annotations_sha256: hashlib.sha256(annotations.read_bytes()).hexdigest(),
            f'"size": {part.size}': f'"size": {size}',
        }
        for path in texts:
            _replace(path, changes)
        for path in (images, annotations):
            path.rename(path.with_name(f"{new}.parquet"))
    for path in texts:
        _replace(path, {ledger.manifest.config_fingerprint: run})
    for path in root.glob("receipts/*.json"):
        _replace(path, {path.stem: _otherwise(path.stem)})
        path.rename(path.with_name(f"{_otherwise(path.stem)}.json"))


def _otherwise(name: str) -> str:
    """<shard>-<digest> with another digest."""
    shard, dash, digest = name.rpartition("-")
    return shard + dash + _sha256(digest)[: len(digest)]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _rewrite(path: Path, column: str, values: list[str]) -> None:
    table = pq.read_table(path)
    at = table.column_names.index(column)
    field = table.schema.field(column)
    pq.write_table(table.set_column(at, field, pa.array(values, field.type)), path)


def _replace(path: Path, changes: dict[str, str]) -> None:
    text = path.read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    path.write_text(text)
