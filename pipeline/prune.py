"""Prune: removes what no published version names."""

from __future__ import annotations

from .ledger import read_manifest, read_receipt
from .plan import listed, standing_manifest
from .storage import Storage, absolute_uri, join


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
    kept = {part.name for part in current.parts}
    for entry in listed(storage, join(dataset, "versions")):
        kept |= {part.name for part in read_manifest(storage, entry.uri).parts}
    removed = 0
    for table in ("images", "annotations"):
        # Hidden ones too: what a killed writer had not yet renamed.
        for entry in listed(storage, join(dataset, table), hidden=True):
            if entry.path.removesuffix(".parquet") not in kept:
                storage.remove(entry.uri)
                removed += 1
    for entry in listed(storage, join(dataset, "receipts"), hidden=True):
        receipt = read_receipt(storage, entry.uri)
        if receipt is None or receipt.part.name not in kept:
            storage.remove(entry.uri)
            removed += 1
    return removed
