"""Shards that hold locked pictures: they are due again when a lock changes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ledger.ledger import Ledger
from pipeline.ledger.locks import find_conflicts, read_locks

from .shards import Shard

_SHOWN = 5
_log = logging.getLogger(__name__)


def with_lock_tokens(
    shards: Sequence[Shard], file_names: pa.ChunkedArray, locked: Mapping[str, str]
) -> list[Shard]:
    """The same shards; the token of those with locked pictures also follows from their locks.

    Args:
        shards: In the order of the listing.
        file_names: Of the listing.
        locked: File name → digest of its lock.
    """
    if not locked:
        return list(shards)
    hits = pc.call_function(
        "is_in", [file_names], pc.SetLookupOptions(pa.array(list(locked), pa.string()))
    )
    rows = np.flatnonzero(np.asarray(hits))
    found: list[Shard] = []
    for shard in shards:
        first, last = np.searchsorted(rows, (shard.start, shard.stop)).tolist()
        if first < last:
            names = [file_names[row].as_py() for row in rows[first:last].tolist()]
            text = " ".join([shard.token, *(f"{name} {locked[name]}" for name in names)])
            token = hashlib.sha256(text.encode()).hexdigest()[: len(shard.token)]
            shard = replace(shard, token=token)  # noqa: PLW2901
        found.append(shard)
    return found


def tell_conflicts(ledger: Ledger) -> None:
    """Warns of every lock that the current version does not follow."""
    locks = read_locks(ledger.storage, ledger.uri)
    if not len(locks):
        return
    tables = ledger.images(("file_name", "sha256", "locked"))
    conflicts = find_conflicts(locks, tables, ledger.categories, ledger.manifest.tasks)
    for item in conflicts[:_SHOWN]:
        _log.warning("a correction of %s does not hold: %s", item.file_name, item.reason)
    if len(conflicts) > _SHOWN:
        _log.warning(
            "… and %d more: python -m jobs.review %s --conflicts",
            *(len(conflicts) - _SHOWN, ledger.uri),
        )
