"""The plan of a run: everything that can be wrong is looked at before the first image is read."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import overload

from pipeline.augment.copies import missing_copies
from pipeline.augment.partners import check_pasted
from pipeline.exporters import open_exporter
from pipeline.history.night import MARK, Night, plan_night
from pipeline.history.standing import MARKER, standing_manifest
from pipeline.images.pages import as_planes
from pipeline.images.preprocess import resolve_references
from pipeline.images.sniff import is_picture
from pipeline.ledger.current import bring_back
from pipeline.ledger.lease import Lease
from pipeline.ledger.ledger import Ledger, part_sizes
from pipeline.ledger.locks import read_locks
from pipeline.ledger.parts import TABLES, TRIED_AGAIN, part_uri
from pipeline.ledger.receipts import read_receipt, receipt_uri
from pipeline.ledger.row_index import RowIndex, known_rows
from pipeline.masks.refine import Refiner
from pipeline.models.checkpoints.families import FAMILIES
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.prompts.request import absolute_exemplars
from pipeline.readers import open_reader
from pipeline.readers.listing import batches_of, sampled
from pipeline.storage.errors import MissingError
from pipeline.storage.optional import files_in
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri, join, local_path
from schemas.config.job import JobConfig, config_fingerprint
from schemas.manifest import DatasetManifest, Part, ShardReceipt
from schemas.names import without_secrets
from schemas.records import Task

from .budget import check_shrink
from .devices.placement import resolve_device
from .locked import with_lock_tokens
from .prepare import ShardWork, WorkerSpec
from .progress import RunProgress
from .resolve import resolve_model
from .shards import Listing, Shard, automatic_size
from .splits import check_groups

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    Attributes:
        config: The job with absolute URIs.
        storage: File access.
        listing: All images.
        work: Those of the shards: all of them too, but in a night.
        shards: All of them, in input order.
        receipts: Shard id → receipt of the finished shards; grows while the run works.
        second: Shards that are done again because some pictures of an object store could not be
            decoded the first time.
        spec: For the workers.
        absent: Pictures that the file of prompts names and the input lacks.
        reread: The bytes of every picture of a shard that is done are read, whatever is known.
        night: What stays of the standing version beside the shards; None = nothing.
        known: What this config has labelled before, where it was looked up.
    """

    config: JobConfig
    storage: Storage
    listing: Listing
    work: Listing
    shards: list[Shard]
    receipts: dict[str, ShardReceipt]
    spec: WorkerSpec
    second: frozenset[str] = frozenset()
    absent: tuple[str, ...] = ()
    reread: bool = False
    night: Night | None = None
    known: RowIndex | None = None

    @property
    def kept(self) -> tuple[Part, ...]:
        """Parts of the standing version that the next one has too, whatever the shards hold."""
        return self.night.kept if self.night is not None else ()


def make_plan(
    config: JobConfig,
    progress: RunProgress,
    *,
    retry_failed: bool = False,
    reread: bool = False,
    verify: bool = False,
    lease: Lease | None = None,
) -> Plan:
    """Describes the model, looks at the output, lists the input, finds what is done.

    Args:
        config: The job.
        progress: Told of every step.
        retry_failed: Shards count as open in which reading, the model or a worker failed.
        reread: All shards count as open: every picture is read again, labels of unchanged bytes
            are taken over.
        verify: Hashes of the standing parts are compared, not their sizes alone, and no picture
            counts as unchanged for its size and time in a shard that is done.
        lease: Taken before anything is written; None plans without writing.

    Raises:
        ExecutionError: Another run holds the lease.
        OverBudgetError: The input lost more images than allowed.
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
    standing = standing_manifest(storage, dataset)
    for name in config.export.formats:
        open_exporter(name, tasks=tasks)
    if lease is not None:
        storage.check_writable(dataset)
        lease.take()
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
    if config.input.sample:
        batches = sampled(batches, config.input.sample)
    listing = Listing.of(batches, limit=config.input.limit, copies=config.augment.copies)
    absent: tuple[str, ...] = ()
    if asked.prompts is not None:
        # A limit or sample leaves out pictures that the file names with every right.
        least = 0.0 if config.input.limit or config.input.sample else config.prompts.min_matched
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
    known = night = None
    if config.history.max_removed and not (reread or verify):
        known, night = _night(spec, standing, listing, retry_failed=retry_failed)
    mean = _mean_size(spec, listing)
    work = listing if night is None else listing.take(night.due)
    mark = "" if night is None else MARK
    shards = work.shards(run=spec.wording, mean_size=mean, mark=mark)
    shards = with_lock_tokens(shards, work.table["file_name"], locks.by_name())
    check_shrink(config.max_shrink, standing, len(listing))
    receipts = {} if reread else _receipts(storage, dataset, shards, retry_failed=retry_failed)
    if lease is not None:
        storage.write(join(dataset, MARKER), _marker(config))
        # A part of an older version serves as well as one of the current.
        bring_back(storage, dataset, [receipt.part for receipt in receipts.values()])
    damaged = damaged_parts(storage, dataset, receipts.values(), hashes=verify)
    for shard, part in damaged.items():
        del receipts[shard]
        if lease is not None:  # else its bytes would be taken for those of another worker
            for table in TABLES:
                storage.remove(part_uri(dataset, table, part.name))
    second = frozenset(shard for shard, receipt in receipts.items() if receipt.once_more)
    receipts = {shard: item for shard, item in receipts.items() if shard not in second}
    if night is not None:
        second |= {one.id for one in shards if night.doubtful[one.start : one.stop].any()}
    return Plan(
        config=config,
        storage=storage,
        listing=listing,
        work=work,
        shards=shards,
        receipts=receipts,
        spec=spec,
        second=second,
        absent=absent,
        reread=reread or verify,
        night=night,
        known=known,
    )


def _mean_size(spec: WorkerSpec, listing: Listing) -> int:
    return spec.config.execution.shard_size or automatic_size(len(listing))


def _night(
    spec: WorkerSpec, standing: DatasetManifest | None, listing: Listing, *, retry_failed: bool
) -> tuple[RowIndex | None, Night | None]:
    """What is known, and what stays as it is where the standing version has the same words."""
    if standing is None or standing.config_fingerprint != spec.run:
        return None, None
    storage = Storage(spec.config.storage)
    known = known_rows(storage, spec.dataset, spec.run)
    if known.about != spec.about:
        return known, None
    night = plan_night(
        Ledger(spec.dataset, standing, storage),
        known,
        listing.image_ids,
        listing.keys(),
        max_removed=spec.config.history.max_removed,
        mean_size=_mean_size(spec, listing),
        retry_failed=retry_failed,
    )
    return known, night


class Works(Sequence[ShardWork]):
    """Shards as work; the records of a shard exist only while it is handed out.

    Args:
        listing: All images.
        shards: What is to be done.
        second: Of these, what is done once more because pictures could not be decoded.
        known: Tells which images need not be read; None = all must be.
    """

    def __init__(
        self,
        listing: Listing,
        shards: Sequence[Shard],
        second: frozenset[str] = frozenset(),
        known: RowIndex | None = None,
    ) -> None:
        self._listing = listing
        self._shards = shards
        self._second = second
        self._known = known

    def __len__(self) -> int:
        return len(self._shards)

    @overload
    def __getitem__(self, at: int) -> ShardWork: ...
    @overload
    def __getitem__(self, at: slice) -> Works: ...
    def __getitem__(self, at: int | slice) -> ShardWork | Works:
        if isinstance(at, slice):
            return Works(self._listing, self._shards[at], self._second, self._known)
        shard = self._shards[at]
        records = self._listing.records(shard)
        if self._known is not None:
            ids = self._listing.image_ids[shard.start : shard.stop]
            parts = self._known.standing_parts(ids, self._listing.keys(shard.start, shard.stop))
            records = [
                replace(record, part=part) if part else record
                for record, part in zip(records, parts, strict=True)
            ]
        return ShardWork(shard.id, shard.token, tuple(records), second=shard.id in self._second)


def _tasks(config: JobConfig, info: ModelInfo) -> tuple[Task, ...]:
    tasks = config.task or info.tasks[:1]
    for task in tasks:
        if task not in info.tasks:
            raise ValueError(
                f"task: model {info.name!r} cannot do {task!r}; it can do {', '.join(info.tasks)}"
            )
    return tasks


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
    settled: dict[str, object] = {"input": source, "output": dataset, "prompts": prompts}
    if cache := config.execution.compile_cache:
        if local_path(cache) is None:
            raise ValueError("execution.compile_cache: compilers write to a local or mounted path")
        own = {"compile_cache": absolute_uri(cache)}
        settled["execution"] = config.execution.model_copy(update=own)
    return config.model_copy(update=settled)


def _marker(config: JobConfig) -> bytes:
    data = config.model_dump(mode="json", exclude={"storage": {"key", "secret"}})
    return without_secrets(json.dumps(data, indent=1) + "\n").encode()


def _receipts(
    storage: Storage, dataset: str, shards: Sequence[Shard], *, retry_failed: bool
) -> dict[str, ShardReceipt]:
    """Receipts of the shards that are done, whether or not their files are sound."""
    standing = {entry.path for entry in files_in(storage, join(dataset, "receipts"))}
    uris = {
        shard.id: receipt_uri(dataset, shard.id, shard.token)
        for shard in shards
        if f"{shard.id}-{shard.token}.json" in standing
    }
    with ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda uri: read_receipt(storage, uri), uris.values())
        kept = {
            shard: receipt
            for shard, receipt in zip(uris, found, strict=True)
            if receipt is not None
            and not (retry_failed and not TRIED_AGAIN.isdisjoint(receipt.part.errors))
        }
    lost = missing_copies(storage, dataset, [receipt.part for receipt in kept.values()])
    return {shard: item for shard, item in kept.items() if item.part.name not in lost}


def damaged_parts(
    storage: Storage, dataset: str, receipts: Iterable[ShardReceipt], *, hashes: bool
) -> dict[str, Part]:
    """Shard → its part, where that part's files are gone or not as they were written.

    Args:
        storage: File access.
        dataset: Absolute URI.
        receipts: What should be there.
        hashes: Read the files and compare hashes; sizes are compared always.
    """
    receipts = list(receipts)
    if not receipts:
        return {}
    sizes = part_sizes(storage, dataset)

    def reason(part: Part) -> str:
        if lacking := [table for table in TABLES if part.name not in sizes[table]]:
            return f"{lacking[0]}/{part.name}.parquet is missing"
        size = sum(sizes[table][part.name] for table in TABLES)
        if size != part.size:
            return f"part {part.name} has {size} bytes, not {part.size}"
        said = (part.images_sha256, part.annotations_sha256)
        for table, digest in zip(TABLES, said, strict=True):
            if hashes and _sha256(storage, part_uri(dataset, table, part.name)) != digest:
                return f"{table}/{part.name}.parquet has other bytes than were written"
        return ""

    with ThreadPoolExecutor(16) as pool:
        reasons = list(pool.map(lambda receipt: reason(receipt.part), receipts))
    for why in filter(None, reasons):
        if not why.endswith("is missing"):  # what is gone may have been pruned: no damage
            _log.warning("damaged, written anew: %s", why)
    return {
        receipt.shard: receipt.part for receipt, why in zip(receipts, reasons, strict=True) if why
    }


def _sha256(storage: Storage, uri: str) -> str:
    try:
        return hashlib.sha256(storage.read(uri)).hexdigest()
    except MissingError:
        return ""
