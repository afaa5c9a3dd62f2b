"""The plan of a run: everything that can be wrong is looked at before the first image is read."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import overload

from pipeline.augment.copies import missing_copies
from pipeline.augment.partners import check_pasted
from pipeline.exporters import open_exporter
from pipeline.images.pages import as_planes
from pipeline.images.preprocess import resolve_references
from pipeline.images.sniff import is_picture
from pipeline.ledger.current import TABLES, bring_back
from pipeline.ledger.ledger import read_manifest, read_receipt, receipt_uri
from pipeline.ledger.locks import read_locks
from pipeline.ledger.parts import RETRYABLE
from pipeline.masks.refine import Refiner
from pipeline.models.checkpoints.families import FAMILIES
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.prompts.request import absolute_exemplars
from pipeline.readers import open_reader
from pipeline.readers.listing import batches_of
from pipeline.storage.storage import Entry, Storage
from pipeline.storage.uris import absolute_uri, join
from schemas.config.job import JobConfig, config_fingerprint
from schemas.manifest import DatasetManifest, ShardReceipt
from schemas.records import ErrorCode, Task

from .execute import resolve_device
from .locked import with_lock_tokens
from .prepare import ShardWork, WorkerSpec
from .progress import RunProgress
from .resolve import resolve_model
from .shards import Listing, Shard
from .splits import check_groups

_MARKER = "job.json"
_TRIED_AGAIN = RETRYABLE | {ErrorCode.TOO_LARGE}
"""Too large may have been so for the memory of one worker; what is so by rule stays as it is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    Attributes:
        config: The job with absolute URIs.
        storage: File access.
        listing: All images.
        shards: All of them, in input order.
        receipts: Shard id → receipt of the finished shards; grows while the run works.
        spec: For the workers.
        absent: Pictures that the file of prompts names and the input lacks.
    """

    config: JobConfig
    storage: Storage
    listing: Listing
    shards: list[Shard]
    receipts: dict[str, ShardReceipt]
    spec: WorkerSpec
    absent: tuple[str, ...] = ()


def make_plan(config: JobConfig, progress: RunProgress, *, retry_failed: bool) -> Plan:
    """Describes the model, looks at the output, lists the input, finds what is done.

    Raises:
        ValueError: Bad config, unknown model, empty input, output that is no dataset of ours.
        StorageError: Input or output cannot be reached.
    """
    storage = Storage(config.storage)
    asked = resolve_model(config, storage)
    info = asked.info
    tasks = _tasks(config, info)
    if config.model.tta.active and not FAMILIES[info.family].views:
        several = sorted(name for name, row in FAMILIES.items() if row.views)
        raise ValueError(
            f"model.tta: models of the family {info.family!r} look at a picture once; "
            f"several times do {', '.join(several)}"
        )
    Refiner(config.model, config.refine, info.categories, tasks)  # complains of unknown categories
    check_pasted(config.augment, info.categories)
    dataset = absolute_uri(config.output)
    standing_manifest(storage, dataset)
    for name in config.export.formats:
        open_exporter(name, tasks=tasks)
    storage.check_writable(dataset)
    progress.phase("listing images")
    config = _absolute(_with_list(config, storage, dataset), dataset)
    preprocess = resolve_references(config.preprocess, storage)
    config = config.model_copy(update={"preprocess": preprocess})
    reader = open_reader(
        config.input,
        storage,
        exclude=[dataset],
        kept=join(dataset, "listings"),
        is_picture=is_picture,
    )
    reader = as_planes(reader, config.images)
    batches = reader.batches() if config.images.each == "file" else batches_of(reader.list())
    listing = Listing.of(batches, limit=config.input.limit, copies=config.augment.copies)
    absent: tuple[str, ...] = ()
    if asked.prompts is not None:
        # A limit leaves out pictures that the file names with every right.
        least = 0.0 if config.input.limit else config.prompts.min_matched
        names = listing.table["file_name"].to_pylist()
        absent = asked.prompts.match(names, least=least).absent
        listing.take_ids(asked.prompts.image_id)
    check_groups(config.split, listing.table["file_name"])
    run = config_fingerprint(
        config.label_config(
            tasks=tasks,
            weights_sha256=info.weights_sha256,
            revision=info.revision,
            categories=info.categories.to_json(),
            category_ids=info.category_ids,
            asked=asked.identity,
        )
    )
    device = resolve_device(config.model.device, config.execution.gpus_per_worker)
    locks = read_locks(storage, dataset)
    spec = WorkerSpec(
        config, reader, info, tasks, dataset, run, device, asked.prompts, locks=locks.name
    )
    shards = listing.shards(run=spec.wording, mean_size=config.execution.shard_size)
    shards = with_lock_tokens(shards, listing.table["file_name"], locks.by_name())
    storage.write(join(dataset, _MARKER), _marker(config))
    receipts = _receipts(storage, dataset, shards, retry_failed=retry_failed)
    return Plan(config, storage, listing, shards, receipts, spec, absent)


class Works(Sequence[ShardWork]):
    """Shards as work; the records of a shard exist only while it is handed out."""

    def __init__(self, listing: Listing, shards: Sequence[Shard]) -> None:
        self._listing = listing
        self._shards = shards

    def __len__(self) -> int:
        return len(self._shards)

    @overload
    def __getitem__(self, at: int) -> ShardWork: ...
    @overload
    def __getitem__(self, at: slice) -> Works: ...
    def __getitem__(self, at: int | slice) -> ShardWork | Works:
        if isinstance(at, slice):
            return Works(self._listing, self._shards[at])
        shard = self._shards[at]
        return ShardWork(shard.id, shard.token, tuple(self._listing.records(shard)))


def _tasks(config: JobConfig, info: ModelInfo) -> tuple[Task, ...]:
    tasks = config.task or info.tasks[:1]
    for task in tasks:
        if task not in info.tasks:
            raise ValueError(
                f"task: model {info.name!r} cannot do {task!r}; it can do {', '.join(info.tasks)}"
            )
    return tasks


def standing_manifest(storage: Storage, dataset: str) -> DatasetManifest | None:
    """The current manifest; None for a new dataset or one that was never finished.

    Raises:
        ValueError: The folder holds something else, or a newer schema version.
    """
    path = join(dataset, "manifest.json")
    if storage.exists(path):
        return read_manifest(storage, path)
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


def _with_list(config: JobConfig, storage: Storage, dataset: str) -> JobConfig:
    """The config with a list from standard input kept in the dataset: a rerun must find it."""
    if config.input.uri != "-":
        return config
    lines = [line.strip() for line in sys.stdin.read().splitlines()]
    plain = [
        absolute_uri(line) if line and not line.startswith(("{", "#", "data:")) else line
        for line in lines
    ]
    data = "".join(f"{line}\n" for line in plain if line).encode()
    uri = join(dataset, "listings", f"stdin-{hashlib.sha256(data).hexdigest()[:16]}.txt")
    storage.create(uri, data)
    return config.model_copy(
        update={"input": config.input.model_copy(update={"uri": uri, "format": "list"})}
    )


def _absolute(config: JobConfig, dataset: str) -> JobConfig:
    """The config with absolute URIs: a worker's folder is never the caller's."""
    source = config.input.model_copy(update={"uri": absolute_uri(config.input.uri)})
    exemplars = absolute_exemplars(config.prompts.exemplars)
    prompts = config.prompts.model_copy(update={"exemplars": exemplars})
    return config.model_copy(update={"input": source, "output": dataset, "prompts": prompts})


def _is_marked(storage: Storage, dataset: str) -> bool:
    """Whether a run of ours began here: job.json holds a job, not somebody else's settings."""
    path = join(dataset, _MARKER)
    try:
        data = json.loads(storage.read(path)) if storage.exists(path) else None
    except ValueError:
        return False
    return isinstance(data, dict) and {"input", "output", "model"} <= data.keys()


def _marker(config: JobConfig) -> bytes:
    data = config.model_dump(mode="json", exclude={"storage": {"key", "secret"}})
    return (json.dumps(data, indent=1) + "\n").encode()


def _receipts(
    storage: Storage, dataset: str, shards: Sequence[Shard], *, retry_failed: bool
) -> dict[str, ShardReceipt]:
    """Receipts of the shards that are done and whose files are still there."""
    standing = {
        table: {entry.path for entry in listed(storage, join(dataset, table))}
        for table in ("receipts", *TABLES)
    }
    for table in TABLES:  # a part of an older version serves as well as one of the current
        away = listed(storage, join(dataset, "versions", table))
        standing[table] |= {entry.path for entry in away}
    uris = {
        shard.id: receipt_uri(dataset, shard.id, shard.token)
        for shard in shards
        if f"{shard.id}-{shard.token}.json" in standing["receipts"]
    }
    with ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda uri: read_receipt(storage, uri), uris.values())
        pairs = zip(uris, found, strict=True)
        kept: dict[str, ShardReceipt] = {}
        for shard, receipt in pairs:
            if receipt is None:
                continue
            file = f"{receipt.part.name}.parquet"
            again = retry_failed and not _TRIED_AGAIN.isdisjoint(receipt.part.errors)
            if not again and file in standing["images"] and file in standing["annotations"]:
                kept[shard] = receipt
    bring_back(storage, dataset, [receipt.part for receipt in kept.values()])
    lost = missing_copies(storage, dataset, [receipt.part for receipt in kept.values()])
    return {shard: item for shard, item in kept.items() if item.part.name not in lost}


def listed(
    storage: Storage, folder: str, *, hidden: bool = False, recursive: bool = True
) -> list[Entry]:
    """The files of a folder that may not be there yet."""
    if not storage.exists(folder):
        return []
    return list(storage.list(folder, hidden=hidden, recursive=recursive))
