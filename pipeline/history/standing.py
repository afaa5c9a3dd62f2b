"""What stands in a dataset's folder: a version, an unfinished run of ours, or nothing yet."""

from __future__ import annotations

import json
from contextlib import suppress

from pipeline.ledger.ledger import read_manifest
from pipeline.storage.errors import MissingError
from pipeline.storage.optional import read_if_there
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.manifest import DatasetManifest

MARKER = "job.json"
"""The last job that wrote there: marks an unfinished dataset as ours."""


def standing_manifest(storage: Storage, dataset: str) -> DatasetManifest | None:
    """The current manifest; None for a new dataset or one that was never finished.

    Raises:
        ValueError: The folder holds something else, or a newer schema version.
    """
    with suppress(MissingError):
        return read_manifest(storage, join(dataset, "manifest.json"))
    if not storage.exists(dataset) or _is_marked(storage, dataset):
        return None
    if not storage.is_dir(dataset):
        raise ValueError(f"output {dataset} is a file, not a folder")
    found = storage.list(dataset)
    first = next((entry for entry in found if not entry.path.startswith("listings/")), None)
    if first is not None:
        raise ValueError(
            f"output {dataset} is no dataset of ours and not empty (it holds {first.path}); "
            "name an empty or a new folder"
        )
    return None


def _is_marked(storage: Storage, dataset: str) -> bool:
    """Whether a run of ours began here: job.json holds a job, not somebody else's settings."""
    try:
        data = json.loads(read_if_there(storage, join(dataset, MARKER)) or b"null")
    except ValueError:
        return False
    return isinstance(data, dict) and {"input", "output", "model"} <= data.keys()
