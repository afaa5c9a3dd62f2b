"""Prune: removes what no published version names, never what a run is still making."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.augment.copies import FOLDER, copy_files
from pipeline.ledger.containers import FOLDER as CONTAINERS
from pipeline.ledger.held import HELD, read_held
from pipeline.ledger.lease import Lease
from pipeline.ledger.ledger import read_manifest
from pipeline.ledger.parts import TABLES
from pipeline.ledger.receipts import read_receipt
from pipeline.ledger.removed import FOLDER as REMOVED
from pipeline.ledger.removed import removed_path
from pipeline.ledger.row_index import FOLDER as INDEX
from pipeline.storage.optional import files_in
from pipeline.storage.processes import is_abandoned, is_temporary
from pipeline.storage.storage import Entry, Storage
from pipeline.storage.uris import absolute_uri, join, leads_elsewhere, local_path
from schemas.manifest import Part, ShardReceipt

from .standing import standing_manifest

SWEPT = ("", "versions", "exports", "report", HELD)
"""Folders in which a killed run may leave temporary files, besides those of the parts."""


def prune(
    output: str,
    storage: Storage,
    *,
    older_than_s: float = 0.0,
    dry_run: bool = False,
    wait: bool = False,
) -> list[str]:
    """Removes parts, receipts and temporary files that no published or held version names.

    It holds the dataset's lease meanwhile, so no run is making what it looks at.

    Args:
        output: The dataset.
        storage: File access.
        older_than_s: Younger files stay, seconds.
        dry_run: Remove nothing, only say what would go.
        wait: Wait for a run that writes the dataset instead of giving up.

    Returns:
        Paths of what was removed, relative to the dataset.

    Raises:
        ValueError: `output` holds no dataset of ours.
        ExecutionError: A run is writing it.
        StorageError: A file cannot be removed.
    """
    dataset = absolute_uri(output)
    if standing_manifest(storage, dataset) is None:
        raise ValueError(f"{dataset} holds no published dataset: nothing to prune")
    with Lease(storage, dataset, wait=wait) as lease:
        if not dry_run:
            lease.take()
        return remove_stale(dataset, storage, older_than_s=older_than_s, dry_run=dry_run)


def remove_stale(
    dataset: str, storage: Storage, *, older_than_s: float = 0.0, dry_run: bool = False
) -> list[str]:
    """As `prune`, of a published dataset whose lease the caller holds.

    Raises:
        StorageError: A file cannot be removed.
    """
    before = time.time() - older_than_s
    removed: list[str] = []
    for folder, entry in _stale(storage, dataset):
        if older_than_s and not 0 < storage.modified(entry.uri) < before:
            continue
        if not dry_run:
            storage.remove(entry.uri)
        removed.append(f"{folder}/{entry.path}".lstrip("/"))
    return removed


def sweep(storage: Storage, dataset: str) -> None:
    """Removes temporary files of processes that are gone; a run does so when it begins."""
    for _, entry in _abandoned(storage, dataset, SWEPT, recursive=False):
        storage.remove(entry.uri)


def _stale(storage: Storage, dataset: str) -> Iterator[tuple[str, Entry]]:
    """(folder, file in it) of what may go, copies before the parts that name them."""
    current = read_manifest(storage, join(dataset, "manifest.json"))
    versions = files_in(storage, join(dataset, "versions"), recursive=False)
    named = [read_manifest(storage, e.uri) for e in versions if e.path.endswith(".json")]
    if (held := read_held(storage, dataset)) is not None:
        named.append(held)
    parts = {part.name: part for version in (current, *named) for part in version.parts}
    yield from _copies(storage, dataset, list(parts.values()))
    kept = parts.keys()
    for folder in (*TABLES, *(f"versions/{table}" for table in TABLES)):
        # Hidden ones too: what a killed writer had not yet renamed.
        for entry in _ours(storage, dataset, folder, ".parquet"):
            if entry.path.removesuffix(".parquet") not in kept:
                yield folder, entry
    tables = {version.containers.get("table") for version in (current, *named)}
    for entry in _ours(storage, dataset, CONTAINERS, ".parquet"):
        if f"{CONTAINERS}/{entry.path}" not in tables:
            yield CONTAINERS, entry
    removed = {removed_path(version) for version in (current, *named)}
    for folder in (REMOVED, f"versions/{REMOVED}"):
        for entry in _ours(storage, dataset, folder, ".parquet"):
            if f"{REMOVED}/{entry.path}" not in removed:
                yield folder, entry
    runs = {version.config_fingerprint for version in (current, *named)}
    for entry in _ours(storage, dataset, INDEX, ".parquet"):
        if entry.path.removesuffix(".parquet") not in runs:
            yield INDEX, entry
    for entry, receipt in _receipts(storage, dataset):
        if receipt is None or receipt.part.name not in kept:
            yield "receipts", entry
    yield from _abandoned(storage, dataset, SWEPT, recursive=True)


def _ours(storage: Storage, dataset: str, folder: str, suffix: str) -> list[Entry]:
    """Files of a folder that a run may have made there, hidden ones too.

    Whoever gave the dataset must not choose what goes: a folder that is a link to another place is
    left alone, and so is what has another kind of name, or lies deeper.
    """
    if leads_elsewhere(dataset, folder):
        return []
    return [
        entry
        for entry in files_in(storage, join(dataset, folder), hidden=True, recursive=False)
        if entry.path.endswith((suffix, ".tmp"))
    ]


def _receipts(storage: Storage, dataset: str) -> Iterator[tuple[Entry, ShardReceipt | None]]:
    """Every file of receipts/, and what it says; None for what no run reads."""

    def read(entry: Entry) -> ShardReceipt | None:
        # Whole, but of a writer that was killed before it could rename it: no run reads it.
        left = is_temporary(entry.path.rpartition("/")[2])
        return None if left else read_receipt(storage, entry.uri)

    entries = _ours(storage, dataset, "receipts", ".json")
    with ThreadPoolExecutor(16) as pool:
        yield from zip(entries, pool.map(read, entries), strict=True)


def _abandoned(
    storage: Storage, dataset: str, folders: Iterable[str], *, recursive: bool
) -> Iterator[tuple[str, Entry]]:
    if local_path(dataset) is None:
        return  # an object appears when it is whole
    for folder in folders:
        if leads_elsewhere(dataset, folder):
            continue
        deep = recursive and bool(folder)
        for entry in files_in(storage, join(dataset, folder), recursive=deep, hidden=True):
            name = entry.path.rpartition("/")[2]
            if is_temporary(name) and is_abandoned(name, storage.modified(entry.uri)):
                yield folder, entry


def _copies(storage: Storage, dataset: str, parts: Sequence[Part]) -> Iterator[tuple[str, Entry]]:
    """Pictures of copies that no kept part names."""
    if leads_elsewhere(dataset, FOLDER):
        return
    files = files_in(storage, join(dataset, FOLDER), hidden=True)
    if not files:
        return
    kept = {name for part in parts for name in copy_files(storage, dataset, part)}
    for entry in files:
        if f"{FOLDER}/{entry.path}" not in kept:
            yield FOLDER, entry
