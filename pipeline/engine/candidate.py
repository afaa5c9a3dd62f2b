"""What a run would publish, and what it notes of the images for the next one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import metadata
from typing import Any

from pipeline.ledger.containers import left_out_json, write_containers
from pipeline.ledger.ledger import build_manifest
from pipeline.ledger.row_index import RowIndex, index_uri, read_parts, write_index
from pipeline.models.checkpoints.info import ModelInfo
from schemas.manifest import DatasetManifest, ShardReceipt

from .plan import Plan
from .progress import RunProgress

_PACKAGES = (
    "maskmill",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "scikit-image",
    "segmentation-models-pytorch",
    "simplejpeg",
    "timm",
    "torch",
    "torchvision",
    "transformers",
)


def candidate_manifest(plan: Plan, progress: RunProgress) -> DatasetManifest:
    """The manifest that would be current next."""
    progress.phase("publishing")
    spec, inventory = plan.spec, plan.spec.reader.inventory
    return build_manifest(
        [plan.receipts[shard.id].part for shard in plan.shards],
        version=1,
        categories=spec.info.categories,
        input=plan.config.input.uri,
        tasks=spec.tasks,
        model=_model(spec.info),
        config=plan.config.published(),
        config_fingerprint=spec.run,
        packages=_packages(),
        absent_images=len(plan.absent),
        containers=write_containers(plan.storage, spec.dataset, inventory.containers),
        left_out=left_out_json(inventory.left_out),
    )


def keep_rows(
    plan: Plan,
    manifest: DatasetManifest,
    before: DatasetManifest | None,
    known: RowIndex,
    fresh: Sequence[ShardReceipt],
) -> None:
    """Notes what the next run may know of the images without reading them."""
    storage, dataset, run = plan.storage, plan.spec.dataset, plan.spec.run
    same = before is not None and before.same_dataset(manifest)
    if not fresh and same and storage.exists(index_uri(dataset, run)):
        return
    done = {receipt.shard for receipt in fresh}
    names = {shard.id: plan.receipts[shard.id].part.name for shard in plan.shards}
    anew = {
        names[shard.id]: partial(plan.listing.records, shard)
        for shard in plan.shards
        if shard.id in done or names[shard.id] not in known.parts
    }
    found = read_parts(storage, dataset, anew)
    rows = {name: found.get(name) or known.parts.get(name) for name in names.values()}
    kept = {name: one for name, one in rows.items() if one is not None}
    write_index(storage, dataset, run, RowIndex(kept))


def _model(info: ModelInfo) -> dict[str, Any]:
    """What the manifest says of the model; keys without a value are left out."""
    origin = {
        "repo": info.repo,
        "table": info.table,
        "category_ids": list(info.category_ids),
    }
    return {
        "name": info.name,
        "family": info.family,
        "revision": info.revision,
        "weights_sha256": info.weights_sha256,
        "licence": info.licence,
        **{key: value for key, value in origin.items() if value},
    }


def _packages() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
