"""What a run would do: pictures by reason, time, money and bytes. Computes and writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.history.standing import standing_manifest
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.reuse import image_fingerprint
from pipeline.ledger.row_index import RowIndex, known_rows
from pipeline.ledger.views import PARENT, without_copies
from pipeline.storage.errors import StorageError
from schemas.config.job import JobConfig
from schemas.manifest import SCHEMA_VERSION, DatasetManifest
from schemas.rows import ImageRow

from .plan import Plan, make_plan
from .progress import RunProgress
from .summary import read_summary

_SECTIONS = {
    "preprocess": "preprocessing",
    "images": "preprocessing",
    "tiling": "preprocessing",
    "model": "thresholds",
    "refine": "thresholds",
    "conflicts": "thresholds",
    "prompts": "prompts",
    "everything": "prompts",
    "naming": "prompts",
}
_PLACE = {"name", "revision", "allow_pickle", "device", "batch_size", "compile"}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would do.

    Attributes:
        images: Of the input.
        counts: `unchanged` (not read: in a shard that is done, or listed as it was when its row
            was written), `reused` (read again, labels taken over),
            `new`, `moved` (a new name and the size of one that is gone), `changed` (another
            size), `recomputed` (the config changed), `to_read` (in an open shard; computed if the
            bytes changed), `gone`.
        reasons: What of the config differs from the standing version: model, tasks, categories,
            prompts, thresholds, preprocessing, schema.
        images_per_second: Of the last run, by its workers; None where nothing was measured.
        workers: That the hours are for.
        hours: None where nothing was measured.
        cost: hours × workers × price, None without a price.
        bytes: Of Parquet to write, from the mean of the standing version; None without one.
    """

    images: int
    counts: Mapping[str, int]
    reasons: tuple[str, ...]
    images_per_second: float | None
    workers: int
    hours: float | None
    cost: float | None
    bytes: int | None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "images": self.images,
            "counts": dict(self.counts),
            "reasons": list(self.reasons),
            "images_per_second": self.images_per_second,
            "workers": self.workers,
            "hours": self.hours,
            "cost": self.cost,
            "bytes": self.bytes,
        }


def estimate(
    config: JobConfig,
    *,
    progress: RunProgress | None = None,
    retry_failed: bool = False,
    price_per_hour: float | None = None,
) -> Estimate:
    """Plans a run without doing it.

    Args:
        config: The job.
        progress: Told of every step.
        retry_failed: As in `label`.
        price_per_hour: Of one worker.

    Raises:
        ValueError: As `label`.
        StorageError: Input or output cannot be reached.
    """
    progress = progress or RunProgress()
    plan = make_plan(config, progress, retry_failed=retry_failed)
    standing = standing_manifest(plan.storage, plan.spec.dataset)
    counts = _counts(plan, standing, progress)
    work = sum(counts[key] for key in ("new", "changed", "recomputed"))
    rate, measured_on = _rate(plan)
    workers = plan.config.execution.workers or measured_on or 1
    hours = None
    if rate and measured_on:
        hours = work / (rate / measured_on * workers) / 3600
    size = None
    if standing is not None and standing.counts["images"]:
        each = sum(part.size for part in standing.parts) / standing.counts["images"]
        size = round(each * work)
    return Estimate(
        images=len(plan.listing),
        counts=counts,
        reasons=_reasons(plan, standing),
        images_per_second=rate,
        workers=workers,
        hours=hours,
        cost=None if price_per_hour is None or hours is None else hours * workers * price_per_hour,
        bytes=size,
    )


def _counts(plan: Plan, standing: DatasetManifest | None, progress: RunProgress) -> dict[str, int]:
    found: Counter[str] = Counter(
        dict.fromkeys(
            (
                "unchanged",
                "reused",
                "new",
                "moved",
                "changed",
                "recomputed",
                "to_read",
                "gone",
            ),
            0,
        )
    )
    kept = {receipt.part.name for receipt in plan.receipts.values()}
    kept |= {p.name for p in plan.kept if standing and p in standing.parts}
    before = _rows(plan, standing, kept) if standing is not None else {}
    known = RowIndex()
    if before:
        progress.phase("looking up earlier labels")
        known = known_rows(plan.storage, plan.spec.dataset, plan.spec.run)
    index = known.labels()
    listed: dict[str, int] = {}
    found["unchanged"] = len(plan.listing) - len(plan.work)
    for shard in plan.shards:
        records = plan.work.records(shard)
        done = shard.id in plan.receipts
        keys = plan.work.keys(shard.start, shard.stop)
        parts = known.standing_parts(plan.work.image_ids[shard.start : shard.stop], keys)
        for record, part in zip(records, parts, strict=True):
            if done or part:
                found["unchanged"] += 1
                before.pop(record.file_name, None)
            else:
                listed[record.file_name] = record.size
    there = {*plan.listing.table["file_name"].to_pylist()} if before else set()
    gone = Counter(row["size_bytes"] for name, row in before.items() if name not in there)
    for name, size in listed.items():
        row = before.get(name)
        if row is None and gone[size] > 0:
            gone[size] -= 1
            found["moved"] += 1
        elif row is None:
            found["new"] += 1
        elif size >= 0 and row["size_bytes"] not in (None, size):
            found["changed"] += 1
        elif row["sha256"]:
            key = image_fingerprint(row["sha256"], plan.spec.run)
            known = index.find(key) is not None
            same_run = standing is not None and standing.config_fingerprint == plan.spec.run
            found["to_read" if known and same_run else "reused" if known else "recomputed"] += 1
        else:
            found["recomputed"] += 1
    found["gone"] = sum(gone.values())
    return dict(found)


def _rows(plan: Plan, standing: DatasetManifest, done: set[str]) -> dict[str, ImageRow]:
    """Name → size and hash of the standing version's pictures, of parts that are not kept."""
    ledger = Ledger(plan.spec.dataset, standing, plan.storage)
    columns = ["file_name", "size_bytes", "sha256"]
    if standing.schema_version > 2:
        columns.append(PARENT)
    rows: dict[str, ImageRow] = {}
    for part in standing.parts:
        if part.name in done:
            continue
        try:
            table = without_copies(ledger.images_of(part, columns))
        except (StorageError, ValueError):
            continue  # damaged or gone: its pictures count as new
        rows |= {row["file_name"]: row for row in table.to_pylist()}
    return rows


def _reasons(plan: Plan, standing: DatasetManifest | None) -> tuple[str, ...]:
    if standing is None or standing.config_fingerprint == plan.spec.run:
        return ()
    spec, found = plan.spec, dict[str, None]()
    model = standing.model
    if (model.get("weights_sha256"), model.get("revision")) != (
        spec.info.weights_sha256,
        spec.info.revision,
    ):
        found["model"] = None
    if standing.tasks != spec.tasks:
        found["tasks"] = None
    if standing.categories != spec.info.categories.to_json():
        found["categories"] = None
    now = plan.config.published()
    for section, reason in _SECTIONS.items():
        old, new = standing.config.get(section) or {}, now.get(section) or {}
        keys = {*old, *new} - _PLACE
        if any(old.get(key) != new.get(key) for key in keys):
            found[reason] = None
    if standing.schema_version != SCHEMA_VERSION:
        found["schema"] = None
    return tuple(found) or ("prompts",)  # contents of a prompt file are in the fingerprint alone


def _rate(plan: Plan) -> tuple[float | None, int]:
    """Images a second of the last run that computed something, and its workers."""
    last = read_summary(plan.storage, plan.spec.dataset).get("speed") or {}
    try:
        rate, workers = float(last["images_per_second"]), int(last["workers"])
    except (KeyError, TypeError, ValueError):
        return None, 0
    return (rate, workers) if rate > 0 and workers > 0 else (None, 0)
