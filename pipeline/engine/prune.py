"""Prune: removes what no published version names."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.augment.copies import FOLDER, copy_files
from pipeline.ledger.containers import FOLDER as CONTAINERS
from pipeline.ledger.current import TABLES
from pipeline.ledger.ledger import read_manifest, read_receipt
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri, join
from schemas.manifest import Part

from .plan import listed, standing_manifest


def prune(output: str, storage: Storage) -> int:
    """Removes parts and receipts that no published version names.

    Returns:
        Files removed.

    Raises:
        ValueError: `output` holds no dataset of ours.
        StorageError: A file cannot be removed.
    """
    dataset = absolute_uri(output)
    current = standing_manifest(storage, dataset)
    if current is None:
        raise ValueError(f"{dataset} holds no published dataset: nothing to prune")
    versions = join(dataset, "versions")
    standing = [read_manifest(storage, e.uri) for e in listed(storage, versions, recursive=False)]
    parts = {part.name: part for version in (current, *standing) for part in version.parts}
    removed = _prune_copies(storage, dataset, list(parts.values()))
    kept = parts.keys()
    folders = [join(root, table) for root in (dataset, versions) for table in TABLES]
    for folder in folders:
        # Hidden ones too: what a killed writer had not yet renamed.
        for entry in listed(storage, folder, hidden=True):
            if entry.path.removesuffix(".parquet") not in kept:
                storage.remove(entry.uri)
                removed += 1
    tables = {version.containers.get("table") for version in (current, *standing)}
    for entry in listed(storage, join(dataset, CONTAINERS), hidden=True):
        if f"{CONTAINERS}/{entry.path}" not in tables:
            storage.remove(entry.uri)
            removed += 1
    for entry in listed(storage, join(dataset, "receipts"), hidden=True):
        receipt = read_receipt(storage, entry.uri)
        if receipt is None or receipt.part.name not in kept:
            storage.remove(entry.uri)
            removed += 1
    return removed


def _prune_copies(storage: Storage, dataset: str, parts: Sequence[Part]) -> int:
    """Removes the pictures of copies that no kept part names, before the parts themselves go."""
    files = listed(storage, join(dataset, FOLDER), hidden=True)
    if not files:
        return 0
    kept = {name for part in parts for name in copy_files(storage, dataset, part)}
    stale = [entry for entry in files if f"{FOLDER}/{entry.path}" not in kept]
    for entry in stale:
        storage.remove(entry.uri)
    return len(stale)
