"""The versions of a dataset: list them, go back to one, promote one, let old ones go."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.ledger.current import bring_back, show_current
from pipeline.ledger.held import drop_held, held_uri, read_held
from pipeline.ledger.lease import Lease
from pipeline.ledger.ledger import Ledger, open_ledger, publish, read_manifest, version_numbers
from pipeline.storage.optional import files_in
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri, join
from schemas.manifest import DatasetManifest

from .prune import remove_stale


@dataclass(frozen=True, slots=True)
class Version:
    """One published version.

    Attributes:
        manifest: What it says.
        written: When it was published, seconds of the epoch; 0 where the store does not say.
        current: Whether readers see it.
    """

    manifest: DatasetManifest
    written: float
    current: bool


def list_versions(uri: str, storage: Storage | None = None) -> list[Version]:
    """The versions whose manifests are kept, ascending.

    Raises:
        ValueError: `uri` holds no dataset of ours, or a manifest is damaged.
        StorageError: It cannot be reached.
    """
    storage = storage or Storage()
    current = open_ledger(uri, storage)
    found = []
    for entry in files_in(storage, join(current.uri, "versions"), recursive=False):
        if entry.path.removesuffix(".json").isdecimal():
            manifest = read_manifest(storage, entry.uri)
            same = manifest.version == current.manifest.version
            found.append(Version(manifest, storage.modified(entry.uri), same))
    return sorted(found, key=lambda one: one.manifest.version)


def open_version(uri: str, number: int, storage: Storage) -> Ledger:
    """A version of a dataset by its number.

    Raises:
        ValueError: There is none, or its manifest is damaged.
    """
    uri = absolute_uri(uri)
    path = _version_uri(uri, number)
    if not storage.exists(path):
        kept = ", ".join(map(str, version_numbers(storage, uri))) or "none"
        raise ValueError(f"{uri} keeps no version {number}; it has {kept}")
    return Ledger(uri, read_manifest(storage, path), storage)


def roll_back(uri: str, number: int, storage: Storage, *, wait: bool = False) -> DatasetManifest:
    """Publishes what an earlier version held as a new version; nothing is taken away.

    Exports and report are those of the version before until they are made anew.

    Raises:
        ValueError: There is no such version.
        StorageError: Parts of it are gone.
        ExecutionError: A run is writing the dataset.
    """
    old = open_version(uri, number, storage)
    with Lease(storage, old.uri, wait=wait) as lease:
        lease.take()
        bring_back(storage, old.uri, old.manifest.parts)
        manifest = publish(storage, old.uri, old.manifest)
        show_current(storage, old.uri, manifest)
        return manifest


def promote(uri: str, storage: Storage, *, wait: bool = False) -> DatasetManifest:
    """Publishes what a gate held back.

    Exports and report are those of the version before until they are made anew.

    Raises:
        ValueError: `uri` holds nothing that was held back.
        StorageError: Parts of it are gone.
        ExecutionError: A run is writing the dataset.
    """
    uri = absolute_uri(uri)
    _held(uri, storage)  # before a lease is written into what may be no dataset
    with Lease(storage, uri, wait=wait) as lease:
        lease.take()
        manifest = _held(uri, storage)
        bring_back(storage, uri, manifest.parts)
        manifest = publish(storage, uri, manifest)
        show_current(storage, uri, manifest)
        drop_held(storage, uri)
        return manifest


def _held(uri: str, storage: Storage) -> DatasetManifest:
    manifest = read_held(storage, uri)
    if manifest is None:
        raise ValueError(f"{uri} holds nothing that a gate held back: no {held_uri(uri)}")
    return manifest


def retire(
    uri: str,
    storage: Storage,
    *,
    keep: int,
    older_than_s: float = 0.0,
    dry_run: bool = False,
    wait: bool = False,
) -> Sequence[int]:
    """Forgets versions but the last `keep`; the current one always stays.

    Their parts stay until `prune`.

    Args:
        uri: The dataset.
        storage: File access.
        keep: How many of the newest stay.
        older_than_s: Younger ones stay too, seconds.
        dry_run: Only say which.
        wait: Wait for a run that writes the dataset.

    Returns:
        Numbers of the versions that went.

    Raises:
        ValueError: `uri` holds no dataset of ours.
        ExecutionError: A run is writing the dataset.
    """
    uri = absolute_uri(uri)
    with Lease(storage, uri, wait=wait) as lease:
        gone = _old_versions(uri, storage, keep=keep, older_than_s=older_than_s)
        if not dry_run and gone:
            lease.take()
            _forget(uri, storage, gone)
        return gone


def end_history(uri: str, storage: Storage, *, keep: int, older_than_s: float) -> int:
    """Forgets old versions and removes what no version names any more, as `[history]` asks.

    Args:
        uri: The dataset, absolute; the caller holds its lease.
        storage: File access.
        keep: How many of the newest versions stay.
        older_than_s: Younger ones stay too, seconds.

    Returns:
        Files that were removed, manifests not counted.

    Raises:
        StorageError: A file cannot be removed.
    """
    if len(version_numbers(storage, uri)) <= keep:
        return 0
    gone = _old_versions(uri, storage, keep=keep, older_than_s=older_than_s)
    _forget(uri, storage, gone)
    return len(remove_stale(uri, storage)) if gone else 0


def _old_versions(uri: str, storage: Storage, *, keep: int, older_than_s: float) -> list[int]:
    numbers = version_numbers(storage, uri)
    current = open_ledger(uri, storage).manifest.version
    old = [number for number in numbers[: max(len(numbers) - keep, 0)] if number != current]
    if not older_than_s:
        return old
    before = time.time() - older_than_s
    return [n for n in old if 0 < storage.modified(_version_uri(uri, n)) < before]


def _forget(uri: str, storage: Storage, numbers: Sequence[int]) -> None:
    for number in numbers:
        storage.remove(_version_uri(uri, number))


def _version_uri(uri: str, number: int) -> str:
    return join(uri, "versions", f"{number:06d}.json")
