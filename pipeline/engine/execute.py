"""The engine: shard calls on a pool of Ray actors, or the same calls in this process.

One retryable call a shard. An actor that dies gives its shard back; a shard that kills its actor
again and again is searched for the image that does it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from pipeline.errors import ExecutionError, ModelLoadError
from pipeline.images.memory import share_memory
from pipeline.ledger.processes import processors
from pipeline.ledger.reuse import ReuseIndex
from pipeline.models.checkpoints.processor import count_gpus, torch_threads
from pipeline.storage.errors import StorageError
from schemas.config.job import ExecutionConfig
from schemas.manifest import ShardReceipt
from schemas.records import ImageRecord

from .devices.gpu_shares import GpuShares
from .devices.placement import INSTRUCTIONS, cpus_beside, hold_instructions, resolve_device
from .devices.watch import DeviceLostError
from .pool import OnReceipt, Pool, WorkerLostError
from .prepare import Feed, Prepared, Preparer, ShardWork, WorkerSpec, one_line
from .session import workers_for
from .worker import ShardWorker

_log = logging.getLogger(__name__)

_CHUNK = 32  # pictures an object in read = "tasks": 0.6 ms a picture, against 16.5 ms one by one


def run_inline(
    spec: WorkerSpec, index: ReuseIndex, works: Iterable[ShardWork], on_receipt: OnReceipt
) -> None:
    """Does every shard in this process, without Ray; same files, byte for byte.

    Raises:
        ExecutionError: `execution.reproducible`, and torch is loaded already under other settings.
        StorageError: The output cannot be written.
        ExecutionError: The device cannot compute any more.
    """
    if spec.config.execution.reproducible:
        hold_instructions(spec.device)
    caller = _ShardCaller(spec, index)
    try:
        pending = iter(works)
        work = next(pending, None)
        while work is not None:
            upcoming = next(pending, None)
            try:
                receipt = caller.run(work, upcoming)
            except DeviceLostError as error:
                raise ExecutionError(f"the device cannot compute any more: {error}") from error
            on_receipt(receipt)
            work = upcoming
    finally:
        caller.close()


def run_alone(
    spec: WorkerSpec, index: ReuseIndex, works: Iterable[ShardWork], on_receipt: OnReceipt
) -> None:
    """As `run_inline`, on the device and with the threads that a worker of Ray here would have.

    So the labels are those of Ray: a GPU or other threads may move a border pixel.
    """
    device = spec.config.model.device
    gpus = count_gpus() if device != "cpu" else 0
    cpus = cpus_beside(float(gpus > 0), gpus=gpus, cpus=processors())
    placed = spec.with_execution(cpus_per_worker=cpus)
    with torch_threads(int(cpus)):
        placed = replace(placed, device=resolve_device(device, float(gpus > 0)))
        run_inline(placed, index, works, on_receipt)


def run_on_ray(
    spec: WorkerSpec,
    index: ReuseIndex,
    works: Sequence[ShardWork],
    on_receipt: OnReceipt,
    *,
    say: Callable[[str], None] = _log.info,
) -> int:
    """Does the shards on actors of the connected Ray cluster.

    Where the job says nothing of GPUs, several workers share one that a single worker cannot fill.

    Args:
        spec: What the workers do.
        index: Labels that are already there.
        works: The shards; records are made when a shard is handed out.
        on_receipt: Called in this thread for each finished shard, in order of completion.
        say: Told of what is decided on the way.

    Returns:
        Workers that were lost.

    Raises:
        ExecutionError: Workers cannot start, or die without an image to blame.
        ModelLoadError: The model cannot be loaded.
        StorageError: The output cannot be written.
    """
    placed = _placed(spec)
    options = placed.config.execution
    asked = spec.config.execution
    free = not asked.workers and (asked.gpus_per_worker, asked.cpus_per_worker) == (None, None)
    # What compiles computes nothing for minutes, and each worker would compile by itself.
    share = free and options.gpus_per_worker and placed.config.model.compile is False
    crew = _RayCrew(placed, index, say=say if share else None)
    pool = Pool(
        crew,
        works,
        on_receipt,
        workers=options.workers,
        most=workers_for(placed.config, placed.info, spec.images, placed.device),
        max_crashes=options.max_crashes,
        shard_timeout_s=options.shard_timeout,
        worker_timeout_s=options.worker_timeout,
    )
    try:
        pool.drive()
        return pool.deaths
    finally:
        pool.stop()


def _placed(spec: WorkerSpec) -> WorkerSpec:
    """The spec with a worker's GPUs, CPUs and device settled for the connected cluster."""
    import ray

    execution, device = spec.config.execution, spec.config.model.device
    total = ray.cluster_resources()
    gpus, cpus = execution.gpus_per_worker, execution.cpus_per_worker
    if gpus is None:
        gpus = 1.0 if device != "cpu" and total.get("GPU", 0) >= 1 else 0.0
    if cpus is None:
        cpus = cpus_beside(gpus, gpus=total.get("GPU", 0), cpus=total.get("CPU", 1))
    workers = execution.workers or max(1, total.get("GPU", 0) // gpus if gpus else 1)
    return replace(
        spec.with_execution(gpus_per_worker=gpus, cpus_per_worker=cpus),
        device=resolve_device(device, gpus, reproducible=execution.reproducible),
        images=int(spec.images // workers),
    )


class _ShardCaller:
    """A worker and its read-ahead in one process; what an actor and `run_inline` share."""

    def __init__(self, spec: WorkerSpec, index: ReuseIndex) -> None:
        execution = spec.config.execution
        self.worker = ShardWorker(spec, index)
        threads = max(2, min(16, round(execution.cpus_per_worker or 1) * 2))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="read")
        prepare = self.worker.preparer.prepare
        self._feed = partial(Feed, self._pool, prepare, ahead=execution.prefetch)
        self._next: Feed | None = None

    def run(self, work: ShardWork, upcoming: ShardWork | None) -> ShardReceipt:
        feed = self._next
        if feed is None or feed.work != work:
            if feed is not None:
                feed.cancel()
            feed = self._feed(work)
        # Begun with the room that this shard no longer needs.
        self._next = feed.follower = self._feed(upcoming) if upcoming is not None else None
        return self.worker.run(work, feed)

    def probe(self, work: ShardWork) -> None:
        self.worker.probe(self._feed(work))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.worker.close()


def _workers_here(options: ExecutionConfig) -> int:
    """How many workers of this run may stand on this node: they share its memory."""
    import ray

    mine = ray.get_runtime_context().get_node_id()
    node = next((one for one in ray.nodes() if one["NodeID"] == mine), {"Resources": {}})
    there = node["Resources"]
    fit = there.get("CPU", 1.0) // (options.cpus_per_worker or 1.0)
    if options.gpus_per_worker:
        fit = min(fit, there.get("GPU", 0.0) // options.gpus_per_worker)
    return max(1, int(min(fit, options.workers or fit)))


class _Actor:
    """Runs in a worker process of Ray."""

    def __init__(self, spec: WorkerSpec, index: ReuseIndex) -> None:
        self._spec = spec
        self._index = index
        self._caller: _ShardCaller
        self._streams: dict[ShardWork, Any] = {}

    def ready(self) -> tuple[str, str]:
        """Loads the model; the ids of the actor and of the node it is on."""
        import ray

        # Not in __init__: what that raises arrives as the death of an actor, its reason lost.
        share_memory(_workers_here(self._spec.config.execution))
        self._caller = _ShardCaller(self._spec, self._index)
        context = ray.get_runtime_context()
        return context.get_actor_id() or "", context.get_node_id()

    def run(self, work: ShardWork, upcoming: ShardWork | None) -> ShardReceipt:
        if self._spec.config.execution.read == "actor":
            return self._caller.run(work, upcoming)
        stream = self._streams.pop(work, None) or self._stream(work)
        self._streams = {}  # a shard that was announced and went elsewhere is dropped
        if upcoming is not None:
            self._streams[upcoming] = self._stream(upcoming)
        return self._caller.worker.run(work, _pulled(stream))

    def probe(self, work: ShardWork) -> None:
        if self._spec.config.execution.read == "actor":
            self._caller.probe(work)
        else:
            self._caller.worker.probe(_pulled(self._stream(work)))

    def _stream(self, work: ShardWork) -> Any:
        """Starts a Ray task, on any node, that fetches and decodes the shard."""
        import ray

        records = [r for r in work.records if r.file_name not in work.poison]
        task = ray.remote(_prepare_chunks).options(
            num_cpus=1,
            num_returns="streaming",
            max_retries=0,
            scheduling_strategy="SPREAD",
            _generator_backpressure_num_objects=4,
        )
        return task.remote(self._spec, self._index, records)


def _pulled(stream: Any) -> Iterator[Prepared]:
    import ray

    for reference in stream:
        yield from ray.get(reference)


def _prepare_chunks(
    spec: WorkerSpec, index: ReuseIndex, records: Sequence[ImageRecord]
) -> Iterator[list[Prepared]]:
    """The body of a read task: prepared images, `_CHUNK` at a time."""
    share_memory(_workers_here(spec.config.execution))
    preparer = Preparer(spec, index)
    with ThreadPoolExecutor(4, thread_name_prefix="read") as pool:
        for start in range(0, len(records), _CHUNK):
            yield list(pool.map(preparer.prepare, records[start : start + _CHUNK]))


class _RayCrew:
    """`Crew` on Ray: a worker is an actor, a call an object reference."""

    def __init__(
        self, spec: WorkerSpec, index: ReuseIndex, *, say: Callable[[str], None] | None = None
    ) -> None:
        import ray

        self._ray = ray
        self._index = ray.put(index)
        self._nodes: dict[str, str] = {}  # actor → its node
        self._asked = 0
        self._hired: dict[Any, float] = {}  # worker → its share of a GPU
        self._begun = self._start_s = 0.0
        self._say = say
        total = ray.cluster_resources()
        beside = total.get("CPU", 1.0) / max(total.get("GPU", 0.0), 1.0)
        self._shares = GpuShares(beside) if say is not None else None
        self._place(spec)

    def _place(self, spec: WorkerSpec) -> None:
        """What the workers to come are and get."""
        self._spec, self._options = spec, spec.config.execution
        self._cpus = self._options.cpus_per_worker or 1.0
        self._gpus = self._options.gpus_per_worker or 0.0
        self._arguments = (self._ray.put(spec), self._index)
        # Ray itself restarts nothing: a restarted actor that no node can place hangs a run.
        held = {"runtime_env": {"env_vars": INSTRUCTIONS}} if self._options.reproducible else {}
        once: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0, **held}
        self._actor = self._ray.remote(_Actor).options(
            num_cpus=self._cpus, num_gpus=self._gpus, **once
        )

    def learn(self, receipt: ShardReceipt, left: int) -> None:
        if self._shares is None or self._say is None:
            return
        self._shares.add(receipt)
        number = self._shares.number(left, workers=len(self._hired), start_s=self._start_s)
        if number > 1:
            self._say(self._shares.told(number))
            settled, self._shares = self._shares.settled(number), None
            self._place(self._spec.with_execution(**settled))

    def outdated(self, worker: Any) -> bool:
        return self._hired.get(worker, self._gpus) != self._gpus

    def capacity(self) -> int:
        read, total = self._options.read, self._ray.cluster_resources()
        cpus, gpus = total.get("CPU", 0.0), total.get("GPU", 0.0)
        fit = cpus // (self._cpus + (read == "tasks"))
        if self._gpus:
            fit = min(fit, gpus // self._gpus)
        if fit < 1 and not self._options.max_workers:
            raise ExecutionError(
                f"no room for a worker of {self._cpus:g} CPU and {self._gpus:g} GPU "
                f"(read = {read!r}) in a cluster of {cpus:g} CPU and {gpus:g} GPU"
            )
        return int(min(fit, self._options.max_workers or fit))

    def ask(self, workers: int) -> None:
        workers = min(workers, self._options.max_workers)
        if workers == self._asked:
            return
        from ray.autoscaler.sdk import request_resources

        shares = {"CPU": self._cpus + (self._options.read == "tasks"), "GPU": self._gpus}
        request_resources(bundles=[{k: v for k, v in shares.items() if v}] * workers)
        self._asked = workers

    def start(self) -> Any:
        self._begun = self._begun or time.monotonic()
        worker = self._actor.remote(*self._arguments)
        self._hired[worker] = self._gpus
        return worker

    def ready(self, worker: Any) -> Any:
        return worker.ready.remote()

    def run(self, worker: Any, work: ShardWork, upcoming: ShardWork | None) -> Any:
        return worker.run.remote(work, upcoming)

    def probe(self, worker: Any, work: ShardWork) -> Any:
        return worker.probe.remote(work)

    def wait(self, calls: Sequence[Any], timeout_s: float) -> Sequence[Any]:
        done, _ = self._ray.wait(list(calls), num_returns=1, timeout=timeout_s)
        return done

    def result(self, call: Any) -> ShardReceipt | None:
        from ray import exceptions as errors

        try:
            found = self._ray.get(call)
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, (StorageError, ModelLoadError)):
                raise cause from None
            if isinstance(cause, DeviceLostError):
                raise WorkerLostError(one_line(cause), blame=cause.blame) from error
            if isinstance(cause, errors.RayError):
                raise WorkerLostError(one_line(cause), blame=True, worker_lives=True) from error
            raise ExecutionError(f"worker: {one_line(cause)}") from error
        except errors.RayActorError as error:
            raise WorkerLostError(one_line(error), blame=not self._node_died(error)) from error
        except errors.RayError as error:
            raise WorkerLostError(one_line(error), blame=False) from error
        if isinstance(found, tuple):
            actor, node = found
            self._nodes[actor] = node
            self._start_s = self._start_s or time.monotonic() - self._begun
        return found if isinstance(found, ShardReceipt) else None

    def _node_died(self, error: Any) -> bool:
        """Whether a worker went with its node: no picture is to blame for that."""
        node = self._nodes.get(error.actor_id)
        alive = {one["NodeID"] for one in self._ray.nodes() if one["Alive"]}
        return error.preempted or (node is not None and node not in alive)

    def stop(self, worker: Any) -> None:
        self._hired.pop(worker, None)
        with suppress(Exception):
            self._ray.kill(worker)

    def missing(self) -> str:
        free = self._ray.available_resources()
        return (
            f"a worker needs {self._cpus:g} CPU and {self._gpus:g} GPU, the cluster has "
            f"{free.get('CPU', 0):g} CPU and {free.get('GPU', 0):g} GPU free; "
            "those that have a place load the model"
        )
