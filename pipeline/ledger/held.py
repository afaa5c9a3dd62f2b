"""The version that a gate held back: kept beside those that readers see, until it is promoted."""

from __future__ import annotations

from dataclasses import replace

from pipeline.storage.errors import MissingError
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.manifest import DatasetManifest

from .current import show_current
from .ledger import read_manifest

HELD = "held"
"""Folder of a dataset; its manifest.json names parts as those of versions/ do."""


def held_uri(dataset: str) -> str:
    """URI of the manifest that was held back."""
    return join(dataset, HELD, "manifest.json")


def hold(
    storage: Storage,
    dataset: str,
    manifest: DatasetManifest,
    standing: DatasetManifest | None,
) -> None:
    """Keeps a manifest without publishing it; replaces the one that was held before.

    What a reader finds who knows no manifest stays the standing version: the candidate's own parts
    are moved where those of other versions lie. Without a standing version they stay.

    Args:
        storage: File access.
        dataset: Absolute URI; the caller holds its lease.
        manifest: What would have been published.
        standing: What readers see, None where nothing was published yet.

    Raises:
        StorageError: It cannot be written.
    """
    version = 1 if standing is None else standing.version + 1
    data = replace(manifest, version=version).to_json().encode()
    storage.write(held_uri(dataset), data)
    if standing is not None:
        show_current(storage, dataset, standing)


def read_held(storage: Storage, dataset: str) -> DatasetManifest | None:
    """The manifest that was held back last, None where there is none.

    Raises:
        StorageError: It cannot be read.
        ValueError: It is damaged, or of a newer schema version.
    """
    try:
        return read_manifest(storage, held_uri(dataset))
    except MissingError:
        return None


def drop_held(storage: Storage, dataset: str) -> None:
    """Forgets what was held back: a later version was published, or this one."""
    storage.remove(held_uri(dataset))
