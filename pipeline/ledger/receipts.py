"""Receipts: which shards are done, so that a killed or repeated run skips them."""

from __future__ import annotations

from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.manifest import ShardReceipt


def receipt_uri(dataset: str, shard: str, token: str) -> str:
    """URI of a shard's receipt."""
    return join(dataset, "receipts", f"{shard}-{token}.json")


def write_receipt(storage: Storage, dataset: str, receipt: ShardReceipt) -> None:
    """Notes that a shard is done; written after its part."""
    uri = receipt_uri(dataset, receipt.shard, receipt.token)
    storage.write(uri, receipt.to_json().encode())


def read_receipt(storage: Storage, uri: str) -> ShardReceipt | None:
    """A receipt, or None where the file is damaged or gone: its shard is simply done again."""
    try:
        return ShardReceipt.from_json(storage.read(uri))
    except (StorageError, ValueError):
        return None
