"""One run: plan → execute → publish → export. The Python API of the main job."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from itertools import islice

from schemas.config import JobConfig, config_fingerprint, failure_limit
from schemas.manifest import DatasetManifest, ShardReceipt
from schemas.records import Status, Task

from .execute import connected, resolve_device, run_inline, run_on_ray
from .exporters import Artifact, export_all, exports_current
from .ledger import Ledger, build_manifest, publish, read_receipt, receipt_uri
from .models.info import ModelInfo, describe
from .parts import RETRYABLE
from .prepare import ShardWork, WorkerSpec
from .progress import RunProgress
from .readers import open_reader
from .report import write_report
from .reuse import EMPTY_INDEX, ReuseIndex, build_index
from .shards import Listing, Shard
from .storage import Storage, absolute_uri, join

_log = logging.getLogger(__name__)

_PACKAGES = ("maskmill", "numpy", "opencv-python-headless", "pillow", "simplejpeg", "torch")
_MARKER = "job.json"


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did.

    Attributes:
        dataset: Absolute URI.
        manifest: The version that is current now.
        new_version: Whether this run published it.
        computed: Images that the model looked at (or that failed) in this run.
        reused: Images whose labels were copied because their bytes were labelled before.
        ignored: File extension → files that are no images.
        artifacts: What was exported.
        report: Path of the HTML report, "" without one.
        failure_limit: Failed images allowed.
        seconds: Wall time.
    """

    dataset: str
    manifest: DatasetManifest
    new_version: bool
    computed: int
    reused: int
    ignored: dict[str, int]
    artifacts: tuple[Artifact, ...]
    report: str
    failure_limit: int
    seconds: float

    @property
    def failed(self) -> int:
        """Failed images of the current version."""
        return self.manifest.counts[Status.FAILED]

    @property
    def over_budget(self) -> bool:
        """Whether more images failed than allowed."""
        return self.failed > self.failure_limit


def label(
    config: JobConfig,
    *,
    progress: RunProgress | None = None,
    export: bool = True,
    report: bool = True,
    retry_failed: bool = False,
) -> RunResult:
    """Labels every image of the input and publishes the dataset.

    Args:
        config: The job.
        progress: Told of every step.
        export: Write the formats that the task yields.
        report: Write the HTML report.
        retry_failed: Do shards again in which reading, the model or a worker failed.

    Raises:
        ValueError: Bad config, unknown model, empty input, output that is no dataset of ours.
        StorageError: Input or output cannot be reached, or no space is left.
        ExecutionError: Workers cannot do their work. Finished shards are kept.
    """
    started = time.monotonic()
    progress = progress or RunProgress()
    info = describe(config.model.name)
    task = _task(config, info)
    storage = Storage(config.storage)
    dataset = absolute_uri(config.output)
    current = _standing(storage, dataset)
    storage.check_writable(dataset)

    progress.phase("listing images")
    reader = open_reader(config.input, storage, exclude=[dataset])
    listing = Listing(islice(reader.list(), config.input.limit or None))
    config = _absolute(config, dataset)
    run = config_fingerprint(
        config.label_config(task=task, weights_sha256=info.weights_sha256, revision=info.revision)
    )
    shards = listing.shards(run=run, mean_size=config.execution.shard_size)
    storage.write(join(dataset, _MARKER), _marker(config))
    receipts = _receipts(storage, dataset, shards, retry_failed=retry_failed)
    todo = [shard for shard in shards if shard.id not in receipts]
    device = resolve_device(config.model.device, config.execution.gpus_per_worker)
    spec = WorkerSpec(config, reader, info, task, dataset, run, device)
    fresh: list[ShardReceipt] = []

    def finished(receipt: ShardReceipt) -> None:
        receipts[receipt.shard] = receipt
        fresh.append(receipt)
        failed = receipt.part.statuses.get(Status.FAILED, 0)
        progress.advance(images=receipt.part.images, failed=failed)

    if todo:
        index = _index(storage, dataset, run, progress)
        works = _Works(listing, todo)
        done = [receipt.part for receipt in receipts.values()]
        counts = {
            "total": len(listing),
            "done": sum(part.images for part in done),
            "failed": sum(part.statuses.get(Status.FAILED, 0) for part in done),
        }
        if config.execution.inline:
            progress.phase("loading the model")
            progress.begin(**counts)
            run_inline(spec, index, works, finished)
        else:
            progress.phase("starting Ray")
            with connected(config.execution):
                progress.phase("loading the model in the workers")
                progress.begin(**counts)
                run_on_ray(spec, index, works, finished)

    progress.phase("publishing")
    manifest = publish(
        storage,
        dataset,
        build_manifest(
            [receipts[shard.id].part for shard in shards],
            version=1,
            categories=info.categories,
            input=config.input.uri,
            task=task,
            model=_model(info),
            config=config.published(),
            config_fingerprint=run,
            packages=_packages(),
        ),
    )
    ledger = Ledger(dataset, manifest, storage)
    new = current is None or current.version != manifest.version
    artifacts: list[Artifact] = []
    out = join(dataset, "exports")
    if export and not exports_current(ledger, out, config.export.formats):
        progress.phase("exporting")
        artifacts = export_all(ledger, out, formats=config.export.formats)
    page = join(dataset, "report", "index.html")
    if report and (new or not storage.exists(page)):
        progress.phase("writing the report")
        page = write_report(
            ledger,
            join(dataset, "report"),
            max_images=config.report.max_images,
            read=lambda record: reader.read(listing.record(record.image_id)),
        )
    return RunResult(
        dataset=dataset,
        manifest=manifest,
        new_version=new,
        computed=sum(receipt.computed for receipt in fresh),
        reused=sum(receipt.reused for receipt in fresh),
        ignored=dict(reader.ignored),
        artifacts=tuple(artifacts),
        report=page if report else "",
        failure_limit=failure_limit(config.max_failures, len(listing)),
        seconds=time.monotonic() - started,
    )


def prune(output: str, storage: Storage) -> int:
    """Removes parts and receipts that no published version names.

    Returns:
        Files removed.

    Raises:
        ValueError: `output` holds no dataset of ours.
        StorageError: A file cannot be removed.
    """
    dataset = absolute_uri(output)
    if _standing(storage, dataset) is None:
        raise ValueError(f"{dataset} holds no published dataset: nothing to prune")
    kept: set[str] = set()
    for entry in storage.list(join(dataset, "versions")):
        kept |= {part.name for part in DatasetManifest.from_json(storage.read(entry.uri)).parts}
    removed = 0
    for table in ("images", "annotations"):
        for entry in list(storage.list(join(dataset, table))):
            if entry.path.removesuffix(".parquet") not in kept:
                storage.remove(entry.uri)
                removed += 1
    for entry in list(storage.list(join(dataset, "receipts"))):
        receipt = read_receipt(storage, entry.uri)
        if receipt is None or receipt.part.name not in kept:
            storage.remove(entry.uri)
            removed += 1
    return removed


class _Works(Sequence[ShardWork]):
    """Shards as work; the records of a shard exist only while it is handed out."""

    def __init__(self, listing: Listing, shards: Sequence[Shard]) -> None:
        self._listing = listing
        self._shards = shards

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, at):  # type: ignore[no-untyped-def]
        if isinstance(at, slice):
            return _Works(self._listing, self._shards[at])
        shard = self._shards[at]
        return ShardWork(shard.id, shard.token, tuple(self._listing.records(shard)))


def _task(config: JobConfig, info: ModelInfo) -> Task:
    task = config.task or info.tasks[0]
    if task not in info.tasks:
        raise ValueError(
            f"task: model {info.name!r} cannot do {task!r}; it can do {', '.join(info.tasks)}"
        )
    return task


def _standing(storage: Storage, dataset: str) -> DatasetManifest | None:
    """The current manifest; None for a new dataset or one that was never finished.

    Raises:
        ValueError: The folder holds something else.
    """
    path = join(dataset, "manifest.json")
    if storage.exists(path):
        return DatasetManifest.from_json(storage.read(path))
    if storage.exists(join(dataset, _MARKER)) or not storage.exists(dataset):
        return None
    if not storage.is_dir(dataset):
        raise ValueError(f"output {dataset} is a file, not a folder")
    first = next(iter(storage.list(dataset)), None)
    if first is not None:
        raise ValueError(
            f"output {dataset} is no dataset of ours and not empty (it holds {first.path}); "
            "name an empty or a new folder"
        )
    return None


def _absolute(config: JobConfig, dataset: str) -> JobConfig:
    """The config with absolute URIs: a worker's folder is never the caller's."""
    source = config.input.model_copy(update={"uri": absolute_uri(config.input.uri)})
    return config.model_copy(update={"input": source, "output": dataset})


def _marker(config: JobConfig) -> bytes:
    data = config.model_dump(mode="json", exclude={"storage": {"key", "secret"}})
    return (json.dumps(data, indent=1) + "\n").encode()


def _receipts(
    storage: Storage, dataset: str, shards: Sequence[Shard], *, retry_failed: bool
) -> dict[str, ShardReceipt]:
    """Receipts of the shards that are done and whose files are still there."""
    standing = {
        table: {entry.path for entry in _listed(storage, join(dataset, table))}
        for table in ("receipts", "images", "annotations")
    }
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
            again = retry_failed and not RETRYABLE.isdisjoint(receipt.part.errors)
            if not again and file in standing["images"] and file in standing["annotations"]:
                kept[shard] = receipt
    return kept


def _index(storage: Storage, dataset: str, run: str, progress: RunProgress) -> ReuseIndex:
    """Fingerprints of all labels that this config has made before."""
    uris = [entry.uri for entry in _listed(storage, join(dataset, "receipts"))]
    if not uris:
        return EMPTY_INDEX
    progress.phase("looking up earlier labels")
    with ThreadPoolExecutor(16) as pool:
        receipts = list(pool.map(lambda uri: read_receipt(storage, uri), uris))
    names = [r.part.name for r in receipts if r is not None and r.run == run]
    return build_index(storage, dataset, names)


def _listed(storage: Storage, folder: str) -> list:  # type: ignore[type-arg]
    return list(storage.list(folder)) if storage.exists(folder) else []


def _model(info: ModelInfo) -> dict[str, str]:
    return {
        "name": info.name,
        "family": info.family,
        "revision": info.revision,
        "weights_sha256": info.weights_sha256,
        "licence": info.licence,
    }


def _packages() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
