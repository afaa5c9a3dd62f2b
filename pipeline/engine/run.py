"""One run: plan → execute → publish → export. The Python API of the main job."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pipeline.errors import ExecutionError
from pipeline.evaluation.gate import check_gold_set, find_breaches
from pipeline.exporters import Artifact, export_all, exports_current
from pipeline.history.prune import sweep
from pipeline.history.standing import standing_manifest
from pipeline.history.versions import end_history
from pipeline.ledger.current import show_current
from pipeline.ledger.diff import ImagesDiff, diff_images
from pipeline.ledger.held import drop_held, hold
from pipeline.ledger.lease import Lease
from pipeline.ledger.ledger import Ledger, publish
from pipeline.ledger.row_index import RowIndex, known_rows
from pipeline.models.checkpoints.processor import count_gpus
from pipeline.report import write_report
from pipeline.storage.errors import StorageError
from pipeline.storage.optional import read_if_there
from pipeline.storage.storage import Storage
from pipeline.storage.swap import current_folder, sweep_asides
from pipeline.storage.uris import absolute_uri, join
from schemas.config.history import duration_s
from schemas.config.job import JobConfig, failure_limit
from schemas.manifest import DatasetManifest, ShardReceipt
from schemas.records import Status

from .budget import FailureBudget, held_back, over_budget
from .candidate import candidate_manifest, keep_rows
from .devices.compile_choice import compile_choice
from .execute import run_alone, run_inline, run_on_ray
from .locked import tell_conflicts
from .plan import Plan, Works, make_plan
from .progress import RunProgress
from .session import is_small, live_figures, load_ahead, on_ray, ray_session
from .shards import Shard
from .summary import PhaseClock, RunResult, WorkerTime, write_summary

_log = logging.getLogger(__name__)


def label(
    config: JobConfig,
    *,
    progress: RunProgress | None = None,
    export: bool = True,
    report: bool = True,
    retry_failed: bool = False,
    reread: bool = False,
    verify: bool = False,
    wait: bool = False,
) -> RunResult:
    """Labels every image of the input and publishes the dataset; one run at a time a dataset.

    Args:
        config: The job.
        progress: Told of every step.
        export: Write the formats that the task yields.
        report: Write the HTML report.
        retry_failed: Do shards again in which reading, the model or a worker failed.
        reread: Read every picture again, also where size and time are as they were.
        verify: Compare the hashes of all standing parts; damaged ones are written anew.
        wait: Wait for another run that writes the dataset instead of giving up.

    Raises:
        ValueError: Bad config, unknown model, empty input, output that is no dataset of ours.
        StorageError: Input or output cannot be reached, or no space is left.
        OverBudgetError: More images failed than allowed, the input lost more, or the version
            breaks a limit of `[gate]`. Nothing is published, finished shards are kept.
        ExecutionError: Workers cannot do their work. Finished shards are kept.
    """
    started = time.monotonic()
    progress = progress or RunProgress()
    storage = Storage(config.storage)
    check_gold_set(config.gate, storage)
    load_ahead(config.execution)
    with Lease(storage, absolute_uri(config.output), wait=wait) as lease:
        plan = make_plan(
            config,
            progress,
            retry_failed=retry_failed,
            reread=reread,
            verify=verify,
            lease=lease,
        )
        return _run(plan, lease, progress, started, export=export, report=report)


def _run(
    plan: Plan,
    lease: Lease,
    progress: RunProgress,
    started: float,
    *,
    export: bool,
    report: bool,
) -> RunResult:
    clock = PhaseClock()
    clock.seconds["plan"] = time.monotonic() - started
    retries = plan.storage.retries()
    try:
        sweep(plan.storage, plan.spec.dataset)
        sweep_asides(plan.spec.dataset)
        with clock.phase("label"):
            alone = _alone(plan, after_death=lease.after_death)
            known = _known(plan, progress)
            fresh, deaths = _execute(plan, progress, known, alone=alone)
        lease.check()
        with clock.phase("publish"):
            before = standing_manifest(plan.storage, plan.spec.dataset)
            manifest = candidate_manifest(plan, progress)
            broken = _judge_whole(plan, manifest, before, progress)
            lease.check()
            if broken:
                if plan.night is None:  # else what stands would not be known any more
                    keep_rows(plan, known, fresh)
                hold(plan.storage, plan.spec.dataset, manifest, before)
                raise held_back(plan.spec.dataset, broken)
            manifest = _publish(plan, manifest, before)
            keep_rows(plan, known, fresh)
        new = before is None or before.version != manifest.version
        ledger = Ledger(plan.spec.dataset, manifest, plan.storage)
        tell_conflicts(ledger)
        since = _since(before, ledger) if new else None
        with clock.phase("export"):
            artifacts = _export(ledger, plan.config, progress) if export else []
        with clock.phase("report"):
            page, drawn = _report(ledger, plan, progress) if report else ("", False)
        result = RunResult(
            dataset=ledger.uri,
            manifest=manifest,
            new_version=new,
            computed=sum(receipt.computed for receipt in fresh),
            reused=sum(receipt.reused for receipt in fresh),
            containers=tuple(plan.spec.reader.inventory.faults),
            artifacts=tuple(artifacts),
            exports=current_folder(plan.storage, join(ledger.uri, "exports")),
            report=page,
            report_written=drawn,
            failure_limit=_limit(plan),
            seconds=time.monotonic() - started,
            phases=clock.seconds,
            workers=1 if alone else plan.config.execution.workers,
            engine="inline" if alone else "ray",
            time=WorkerTime.of(fresh),
            deaths=deaths,
            retries=plan.storage.retries() - retries + sum(receipt.retries for receipt in fresh),
            since=since,
            run=lease.run,
            absent=plan.absent,
        )
        write_summary(plan.storage, result)
        _end_history(plan, progress)
    except StorageError as error:
        # Input and output were reachable a moment ago: a full disk, a lost network.
        raise ExecutionError(str(error)) from error
    return result


def _end_history(plan: Plan, progress: RunProgress) -> None:
    """Lets old versions go where the job says how many stay; the last thing that a run does."""
    history = plan.config.history
    if not history.keep:
        return
    progress.phase("letting old versions go")
    age = duration_s(history.older_than)
    end_history(plan.spec.dataset, plan.storage, keep=history.keep, older_than_s=age)


def _since(before: DatasetManifest | None, after: Ledger) -> ImagesDiff | None:
    """What became of the pictures; None for a first version, or where the old one is damaged."""
    if before is None:
        return None
    try:
        return diff_images(Ledger(after.uri, before, after.storage), after)
    except (StorageError, ValueError) as error:
        _log.warning("not compared with version %d: %s", before.version, error)
        return None


def _todo(plan: Plan) -> list[Shard]:
    return [shard for shard in plan.shards if shard.id not in plan.receipts]


def _alone(plan: Plan, *, after_death: bool) -> bool:
    """Whether this process does the work, as the job asks or as little is left to do.

    What a killed run left is done on Ray, which finds the image that kills a process.
    """
    options = plan.config.execution
    if options.in_process or on_ray(options) or after_death:
        return options.in_process
    sizes = plan.work.table["size"].to_numpy()
    left = [sizes[shard.start : shard.stop] for shard in _todo(plan)]
    if not left:
        return True  # nothing to do needs no Ray
    return is_small(plan.config, plan.spec.info, np.concatenate(left), count_gpus=count_gpus)


def _execute(
    plan: Plan, progress: RunProgress, known: RowIndex, *, alone: bool
) -> tuple[list[ShardReceipt], int]:
    """Does the shards that have no receipt; this run's receipts, and workers that were lost."""
    todo = _todo(plan)
    faults = len(plan.spec.reader.inventory.faults)
    budget = FailureBudget(_limit(plan), containers=faults)
    for part in (*plan.kept, *(receipt.part for receipt in plan.receipts.values())):
        budget.add(part)
    _judge(plan, budget)
    if not todo:
        return [], 0
    index = known.labels()
    parts = [*plan.kept, *(receipt.part for receipt in plan.receipts.values())]
    fresh: list[ShardReceipt] = []

    def begin() -> None:
        progress.begin(
            total=len(plan.listing),
            done=sum(part.images - part.copies for part in parts),
            failed=sum(part.statuses.get(Status.FAILED, 0) for part in parts),
        )

    show: Callable[[int, int], None] | None = None

    def finished(receipt: ShardReceipt) -> None:
        plan.receipts[receipt.shard] = receipt
        fresh.append(receipt)
        failed = receipt.part.statuses.get(Status.FAILED, 0)
        progress.advance(images=receipt.part.images - receipt.part.copies, failed=failed)
        if receipt.told:
            progress.phase(receipt.told)
        if show is not None:
            show(progress.done, progress.failed)
        budget.add(receipt.part)
        _judge(plan, budget)

    works = Works(plan.work, todo, plan.second, None if plan.reread else known)
    images = sum(len(shard) for shard in todo)
    spec = replace(plan.spec, images=images)
    deaths = 0
    if plan.config.execution.in_process:
        progress.phase("loading the model")
        begin()
        run_inline(spec, index, works, finished)
    elif alone:
        progress.phase(f"{images} images: one process, without Ray (execution.engine)")
        begin()
        run_alone(spec, index, works, finished)
    else:
        progress.phase("starting Ray")
        with ray_session(plan.config.execution):
            progress.phase("loading the model in the workers")
            begin()
            show = live_figures(plan.spec.dataset, len(plan.listing))
            deaths = run_on_ray(spec, index, works, finished, say=progress.phase)
    return fresh, deaths


def _limit(plan: Plan) -> int:
    faults = len(plan.spec.reader.inventory.faults)
    return failure_limit(plan.config.max_failures, len(plan.listing) + faults)


def _judge(plan: Plan, budget: FailureBudget) -> None:
    """Stops as soon as the budget cannot be met any more: the rest would be work for nothing."""
    if not budget.over:
        return
    fresh = [plan.receipts[shard.id].part for shard in plan.shards if shard.id in plan.receipts]
    done = [*plan.kept, *fresh]
    left = len(plan.listing) - sum(part.images - part.copies for part in done)
    raise over_budget(plan.storage, plan.spec.dataset, budget, done, left=left)


def _judge_whole(
    plan: Plan, manifest: DatasetManifest, standing: DatasetManifest | None, progress: RunProgress
) -> list[str]:
    """What a new version breaks of `[gate]`; what readers see already is not judged again."""
    gate, storage, dataset = plan.config.gate, plan.storage, plan.spec.dataset
    if not gate.active or (standing is not None and standing.same_dataset(manifest)):
        return []
    progress.phase("judging")
    before = None if standing is None else Ledger(dataset, standing, storage)
    return find_breaches(gate, Ledger(dataset, manifest, storage), before)


def _publish(
    plan: Plan, manifest: DatasetManifest, before: DatasetManifest | None
) -> DatasetManifest:
    """The manifest that is current now."""
    if before is not None and before.same_dataset(manifest):
        manifest = before
    else:
        manifest = publish(plan.storage, plan.spec.dataset, manifest)
    if plan.config.model.compile == "auto":  # the next version's images decide anew
        plan.storage.remove(compile_choice(plan.spec.dataset, plan.spec.run))
    show_current(plan.storage, plan.spec.dataset, manifest)
    drop_held(plan.storage, plan.spec.dataset)
    return manifest


def _export(ledger: Ledger, config: JobConfig, progress: RunProgress) -> list[Artifact]:
    out = join(ledger.uri, "exports")
    if exports_current(ledger, out, config.export.formats, config.export):
        return []
    progress.phase("exporting")
    return export_all(ledger, out, formats=config.export.formats, config=config.export)


def _report(ledger: Ledger, plan: Plan, progress: RunProgress) -> tuple[str, bool]:
    """The report's page, and whether it was written: not where it shows this version already."""
    out = join(ledger.uri, "report")
    storage = plan.storage
    standing = current_folder(storage, out)
    page, stamp = join(standing, "index.html"), join(standing, "report.json")
    shown = {
        "manifest": hashlib.sha256(ledger.manifest.to_json().encode()).hexdigest(),
        "max_images": plan.config.report.max_images,
    }
    data = (json.dumps(shown, sort_keys=True) + "\n").encode()
    if read_if_there(storage, stamp) == data and storage.exists(page):
        return page, False
    progress.phase("writing the report")
    reader, listing = plan.spec.reader, plan.listing
    page = write_report(
        ledger,
        out,
        max_images=plan.config.report.max_images,
        read=lambda record: reader.read(listing.record(record.image_id)),
        stamp=data,
    )
    return page, True


def _known(plan: Plan, progress: RunProgress) -> RowIndex:
    """What this config has labelled before; not looked up where nothing is to be done."""
    if plan.known is not None or not _todo(plan):
        return plan.known or RowIndex()
    progress.phase("looking up earlier labels")
    return known_rows(plan.storage, plan.spec.dataset, plan.spec.run)
