"""What a run did, as plain data: run.json, run.prom, the last line, the seconds of its phases."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from pipeline.exporters import Artifact
from pipeline.ledger.diff import ImagesDiff
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.containers import Container
from schemas.manifest import DatasetManifest, ShardReceipt
from schemas.records import Status

FILE = "run.json"
METRICS_FILE = "run.prom"


@dataclass(frozen=True, slots=True)
class WorkerTime:
    """What the workers' time went into, from the first picture to the last; loading is not in it.

    Attributes:
        seconds: Of all workers together.
        busy: Of those, while the model was at work.
        waited: Of those, while nothing but pictures was waited for.
        gpu: Share of the time in which the GPUs computed; None where it was not measured.
    """

    seconds: float = 0.0
    busy: float = 0.0
    waited: float = 0.0
    gpu: float | None = None

    @classmethod
    def of(cls, receipts: Sequence[ShardReceipt]) -> WorkerTime:
        """The sum of what the workers measured."""
        times = [(one.seconds, one.busy, one.waited) for one in receipts]
        if not times:
            return cls()
        measured = [(one.gpu, one.seconds) for one in receipts if one.gpu is not None]
        metered = sum(seconds for _, seconds in measured)
        share = sum(gpu for gpu, _ in measured) / metered if metered else None
        return cls(*map(sum, zip(*times, strict=True)), gpu=share)

    def __str__(self) -> str:
        """ "device busy 83 %, waiting for pictures 12 %"; "" where the model had nothing to do.

        On a GPU "GPU busy 61 %, model at work 83 %, waiting for pictures 12 %": what the GPU did,
        and when a worker was at its model, which is also work of processors.
        """
        if not (self.busy and self.seconds):
            return ""
        busy, waited = (round(100 * part / self.seconds) for part in (self.busy, self.waited))
        model = f"device busy {busy} %"
        if self.gpu is not None:
            model = f"GPU busy {round(100 * self.gpu)} %, model at work {busy} %"
        return f"{model}, waiting for pictures {waited} %"

    def to_json(self) -> dict[str, float]:
        """Plain data, seconds."""
        found = {"seconds": self.seconds, "busy": self.busy, "waited": self.waited}
        if self.gpu is not None:
            found["gpu"] = self.gpu * self.seconds
        return {name: round(value, 3) for name, value in found.items()}


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did.

    Attributes:
        dataset: Absolute URI.
        manifest: The version that is current now.
        new_version: Whether this run published it.
        computed: Images that the model looked at (or that failed) in this run.
        reused: Images whose labels were copied because their bytes were labelled before.
        containers: Tars, tables, lists and folders that could not be read, or not to their end.
        artifacts: What was exported.
        exports: URI of the folder that their paths are relative to.
        report: Path of the HTML report, "" without one.
        report_written: Whether this run wrote it.
        failure_limit: Failed images and containers allowed.
        seconds: Wall time.
        phases: Phase → seconds.
        workers: Actors that were asked for, 0 = as many as fit; 1 in one process.
        deaths: Workers that were lost.
        retries: Calls of the store that were tried again, by driver and workers.
        since: What became of the pictures since the version before; None for the first one.
        run: Random, of this run; also in the lease.
        absent: Pictures that the file of prompts names and the input lacks.
        engine: "ray", or "inline" where this process did the work.
        time: What the workers' time went into.
    """

    dataset: str
    manifest: DatasetManifest
    new_version: bool
    computed: int
    reused: int
    containers: tuple[Container, ...]
    artifacts: tuple[Artifact, ...]
    exports: str
    report: str
    failure_limit: int
    seconds: float
    phases: Mapping[str, float] = field(default_factory=dict)
    workers: int = 0
    deaths: int = 0
    retries: int = 0
    since: ImagesDiff | None = None
    run: str = ""
    report_written: bool = False
    absent: tuple[str, ...] = ()
    engine: str = "ray"
    time: WorkerTime = WorkerTime()

    @property
    def failed(self) -> int:
        """Failed images of the current version."""
        return self.manifest.counts[Status.FAILED]

    def to_json(self) -> dict[str, Any]:
        """Plain data: the object of run.json, and of the line that `--json` prints."""
        return {
            "run": self.run,
            "dataset": self.dataset,
            "version": self.manifest.version,
            "new_version": self.new_version,
            "counts": dict(self.manifest.counts),
            "errors": dict(self.manifest.error_counts),
            "computed": self.computed,
            "reused": self.reused,
            "failure_limit": self.failure_limit,
            "since": self.since.to_json() if self.since is not None else None,
            "seconds": round(self.seconds, 3),
            "phases": {name: round(value, 3) for name, value in self.phases.items()},
            "engine": self.engine,
            "workers": self.workers,
            "time": self.time.to_json(),
            "deaths": self.deaths,
            "retries": self.retries,
            "bytes": sum(part.size for part in self.manifest.parts),
            "report": self.report,
        }


@dataclass(slots=True)
class PhaseClock:
    """Seconds of each phase of a run."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts the block's time under this name."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started


def write_summary(storage: Storage, result: RunResult) -> None:
    """Leaves run.json in the dataset: of the last run alone, with clocks, unlike the data.

    Its `speed` is that of the last run that computed something.
    """
    data = result.to_json()
    speed = read_summary(storage, result.dataset).get("speed")
    seconds = result.phases.get("label", 0.0)
    if result.computed and seconds and result.workers:
        rate = round(result.computed / seconds, 3)
        speed = {"images_per_second": rate, "workers": result.workers}
    text = json.dumps({**data, "speed": speed}, indent=1) + "\n"
    storage.write(join(result.dataset, FILE), text.encode())
    storage.write(join(result.dataset, METRICS_FILE), _exposition(result))


def _exposition(result: RunResult) -> bytes:
    """The figures of a run in Prometheus' text format, every one with the dataset as a label."""
    registry = CollectorRegistry()
    labels = {"dataset": result.dataset}

    def tell(name: str, text: str, values: Mapping[str, float], by: str = "") -> None:
        gauge = Gauge(f"maskmill_{name}", text, [*labels, *([by] if by else [])], registry=registry)
        for key, value in values.items():
            gauge.labels(**labels, **({by: key} if by else {})).set(value)

    tell("images", "Images of the current version.", result.manifest.counts, "status")
    tell("images_failed", "Failed images by error code.", result.manifest.error_counts, "error")
    tell(
        "images_computed", "Images that the model looked at in the last run.", {"": result.computed}
    )
    tell("images_reused", "Images whose labels were copied.", {"": result.reused})
    tell("version", "The version that is current.", {"": result.manifest.version})
    tell("phase_seconds", "Wall time of the last run's phases.", result.phases, "phase")
    tell("run_seconds", "Wall time of the last run.", {"": result.seconds})
    tell("worker_seconds", "What the workers' time went into.", result.time.to_json(), "part")
    tell("workers_lost", "Workers that died in the last run.", {"": result.deaths})
    tell("storage_retries", "Calls of the store that were tried again.", {"": result.retries})
    tell("dataset_bytes", "Of the parts.", {"": sum(part.size for part in result.manifest.parts)})
    tell("last_run_timestamp_seconds", "When the last run ended.", {"": time.time()})
    return generate_latest(registry)


def read_summary(storage: Storage, dataset: str) -> dict[str, Any]:
    """The last run's object; empty where there is none or a damaged one."""
    try:
        data = json.loads(storage.read(join(dataset, FILE)))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
