"""What a run would publish, and what it notes of the images for the next one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np

from pipeline.ledger.containers import left_out_json, write_containers
from pipeline.ledger.ledger import build_manifest
from pipeline.ledger.removed import write_removed
from pipeline.ledger.row_index import (
    PartRows,
    RowIndex,
    Wanted,
    index_covers,
    read_parts,
    write_index,
)
from pipeline.models.checkpoints.info import ModelInfo
from schemas.manifest import DatasetManifest, Part, ShardReceipt

from .plan import Plan
from .progress import RunProgress
from .shards import Shard

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
    night = plan.night
    removed = {} if night is None else {p.name: night.removed.get(p.name, _NONE) for p in plan.kept}
    return build_manifest(
        _parts(plan),
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
        removed=write_removed(plan.storage, spec.dataset, removed),
    )


_NONE = np.empty(0, np.int64)


def _parts(plan: Plan) -> list[Part]:
    """In the order of the input, by the first image of each."""
    fresh = [plan.receipts[shard.id].part for shard in plan.shards]
    if plan.night is None:
        return fresh
    starts = [int(plan.night.due[shard.start]) for shard in plan.shards]
    placed = [*zip(plan.night.places, plan.kept, strict=True), *zip(starts, fresh, strict=True)]
    return [part for _, part in sorted(placed, key=lambda item: item[0])]


def keep_rows(plan: Plan, known: RowIndex, fresh: Sequence[ShardReceipt]) -> None:
    """Notes what the next run may know of the images without reading them.

    Args:
        plan: Of this run, all shards done.
        known: What was known when it began.
        fresh: The shards that this run did.
    """
    storage, dataset, run = plan.storage, plan.spec.dataset, plan.spec.run
    kept = plan.night.known if plan.night is not None else {}
    names = [part.name for part in _parts(plan)]
    about = plan.spec.about
    removed = sum(part.removed for part in plan.kept)
    if not fresh and index_covers(storage, dataset, run, names, removed, about):
        return
    done = {receipt.shard for receipt in fresh}
    own = {plan.receipts[shard.id].part.name: shard for shard in plan.shards}
    anew = {
        name: partial(_wanted, plan, shard)
        for name, shard in own.items()
        if shard.id in done or not _is_known(known.parts.get(name), _wanted(plan, shard))
    }
    found = {**kept, **read_parts(storage, dataset, anew)}
    rows = {name: found.get(name) or known.parts.get(name) for name in names}
    write_index(
        storage,
        dataset,
        run,
        RowIndex({name: one for name, one in rows.items() if one is not None}, about),
        removed,
    )


def _is_known(rows: PartRows | None, wanted: Wanted) -> bool:
    """Whether rows say what is listed now: a run that was killed may have read it anew."""
    if rows is None or len(rows.image_ids) != len(wanted.image_ids):
        return False
    one, other = np.argsort(rows.image_ids), np.argsort(wanted.image_ids)
    return np.array_equal(rows.image_ids[one], wanted.image_ids[other]) and np.array_equal(
        rows.listing_keys[one], wanted.listing_keys[other]
    )


def _wanted(plan: Plan, shard: Shard) -> Wanted:
    return Wanted(
        plan.work.image_ids[shard.start : shard.stop],
        plan.work.keys(shard.start, shard.stop),
        once_more=plan.receipts[shard.id].once_more > 0,
    )


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
