"""Shards on real Ray actors: same bytes as in one process, deaths survived."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pictures import write_pictures
from ray_cluster import RayCluster

from pipeline.engine import execute, worker
from pipeline.engine.devices import gpu_shares
from pipeline.engine.execute import run_inline, run_on_ray
from pipeline.engine.prepare import ShardWork, WorkerSpec
from pipeline.engine.session import live_figures, ray_session
from pipeline.engine.shards import Listing
from pipeline.errors import ExecutionError
from pipeline.ledger.reuse import EMPTY_INDEX
from pipeline.models.checkpoints.info import describe
from pipeline.models.checkpoints.processor import GpuUse
from pipeline.readers import Reader, open_reader
from schemas.config.job import ExecutionConfig, JobConfig
from schemas.manifest import ShardReceipt
from schemas.records import ImageRecord


@dataclass(frozen=True)
class DeadlyReader:
    """Reads like `inner`, but some images kill the process that reads them.

    A stand-in for a decoder with a memory error: the process is gone before it can say a word.
    """

    inner: Reader
    deadly: frozenset[str]
    ignored: dict[str, int]

    def list(self) -> Iterator[ImageRecord]:
        return self.inner.list()

    def read(self, record: ImageRecord) -> bytes:
        if record.file_name in self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.read(record)


@pytest.fixture
def job(tmp_path: Path) -> tuple[WorkerSpec, list[ShardWork]]:
    write_pictures(tmp_path / "in", 24)
    config = JobConfig.parse(
        {
            "input": {"uri": str(tmp_path / "in")},
            "output": str(tmp_path / "ray"),
            "model": {"name": "otsu", "batch_size": 4},
            "execution": {"workers": 2, "shard_size": 6, "gpus_per_worker": 0},
        }
    )
    reader = open_reader(config.input)
    listing = Listing(reader.list())
    works = [
        ShardWork(s.id, s.token, tuple(listing.records(s)))
        for s in listing.shards(run="r", mean_size=6)
    ]
    info = describe("otsu")
    spec = WorkerSpec(config, reader, info, "panoptic", str(tmp_path / "ray"), "r", "cpu")
    return spec, works


def files(folder: str) -> dict[str, bytes]:
    root = Path(folder)
    return {
        str(p.relative_to(root)): p.read_bytes()
        for table in ("images", "annotations")
        for p in sorted((root / table).iterdir())
    }


def with_execution(spec: WorkerSpec, **changes: object) -> WorkerSpec:
    execution = ExecutionConfig.model_validate({**spec.config.execution.model_dump(), **changes})
    return replace(spec, config=spec.config.model_copy(update={"execution": execution}))


def inline_files(spec: WorkerSpec, works: list[ShardWork]) -> dict[str, bytes]:
    other = replace(spec, dataset=spec.dataset + "-inline")
    run_inline(other, EMPTY_INDEX, works, lambda _: None)
    return files(other.dataset)


@pytest.mark.parametrize("read", ["actor", "tasks"])
def test_the_same_bytes_as_in_one_process(
    job: tuple[WorkerSpec, list[ShardWork]], ray_cluster: RayCluster, read: str
) -> None:
    spec, works = job
    receipts: list[ShardReceipt] = []
    with ray_session(ExecutionConfig(address=ray_cluster.address)):
        run_on_ray(with_execution(spec, read=read), EMPTY_INDEX, works, receipts.append)
    assert sorted(r.shard for r in receipts) == sorted(w.shard for w in works)
    assert files(spec.dataset) == inline_files(spec, works)


@pytest.mark.parametrize("read", ["actor", "tasks"])
def test_images_that_kill_their_worker_become_failed_rows(
    job: tuple[WorkerSpec, list[ShardWork]], ray_cluster: RayCluster, read: str
) -> None:
    spec, works = job
    names = [r.file_name for w in works for r in w.records]
    deadly = frozenset({names[3], names[17]})
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    spec = with_execution(replace(spec, reader=DeadlyReader(spec.reader, deadly, {})), read=read)
    receipts: list[ShardReceipt] = []
    try:
        with ray_session(ExecutionConfig(address=ray_cluster.address)):
            run_on_ray(spec, EMPTY_INDEX, works, receipts.append)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert sum(r.part.images for r in receipts) == len(names)
    assert sum(r.part.errors.get("crashed", 0) for r in receipts) == 2
    assert sum(r.part.statuses.get("failed", 0) for r in receipts) == 2


def test_a_worker_that_cannot_fit_is_an_error_that_says_so(
    job: tuple[WorkerSpec, list[ShardWork]], ray_cluster: RayCluster
) -> None:
    spec, works = job
    greedy = with_execution(spec, workers=0, cpus_per_worker=64)
    with (
        ray_session(ExecutionConfig(address=ray_cluster.address)),
        pytest.raises(ExecutionError, match=r"no room for a worker of 64 CPU"),
    ):
        run_on_ray(greedy, EMPTY_INDEX, works, lambda _: None)


def test_workers_hold_the_gpus_they_are_given(
    job: tuple[WorkerSpec, list[ShardWork]], ray_cluster: RayCluster
) -> None:
    """Two logical GPUs: half of one each makes four workers, one each makes two."""
    spec, works = job
    with ray_session(ExecutionConfig(address=ray_cluster.address)):
        unset = execute._placed(with_execution(spec, gpus_per_worker=None))
        assert (unset.device, unset.config.execution.gpus_per_worker) == ("cuda", 1)
        assert unset.config.execution.cpus_per_worker == 2  # a GPU's share of four cores
        assert execute._RayCrew(unset, EMPTY_INDEX).capacity() == 2
        half = execute._placed(with_execution(spec, gpus_per_worker=0.5, cpus_per_worker=1))
        assert execute._RayCrew(half, EMPTY_INDEX).capacity() == 4
        receipts: list[ShardReceipt] = []
        run_on_ray(half, EMPTY_INDEX, works, receipts.append)
    assert len(receipts) == len(works)


def test_a_worker_that_cannot_fill_its_gpu_makes_room_for_several(
    job: tuple[WorkerSpec, list[ShardWork]], ray_cluster: RayCluster
) -> None:
    """Two logical GPUs and four processors: two workers a GPU, one processor each."""
    spec, works = job
    said: list[str] = []
    receipts: list[ShardReceipt] = []
    with ray_session(ExecutionConfig(address=ray_cluster.address)):
        alone = execute._placed(with_execution(spec, workers=0, gpus_per_worker=None))
        crew = execute._RayCrew(alone, EMPTY_INDEX, say=said.append)
        worker = crew.start()
        assert crew.capacity() == 2
        assert not crew.outdated(worker)
        run_inline(replace(spec, device="cpu"), EMPTY_INDEX, works[:1], receipts.append)
        half_idle = replace(receipts[0], seconds=5.0, gpu=1.0, memory=0.05)
        crew.learn(half_idle, 900)
        assert not said
        crew.learn(half_idle, 899)
        assert "2 share one" in said[0]
        assert crew.capacity() == 4
        assert crew.outdated(worker)
        crew.stop(worker)


class IdleMeter:
    """A GPU that is busy a fifth of the time, as every shard but a worker's first tells."""

    def __init__(self, _device: str) -> None:
        self.shards = 0

    def take(self) -> GpuUse | None:
        self.shards += 1
        return GpuUse(0.2, 0.05) if self.shards > 1 else None

    def close(self) -> None: ...


class MeteredActor(execute._Actor):
    def ready(self) -> tuple[str, str]:
        worker.GpuMeter = IdleMeter
        return super().ready()


@pytest.mark.slow
def test_shards_are_done_once_by_workers_that_come_to_share_a_gpu(
    job: tuple[WorkerSpec, list[ShardWork]],
    ray_cluster: RayCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ray import cloudpickle

    spec, works = job
    cut = [
        replace(work, shard=f"{i}{work.shard[1:]}", records=work.records[i : i + 1])
        for work in works
        for i in range(len(work.records))
    ]
    said: list[str] = []
    receipts: list[ShardReceipt] = []
    monkeypatch.setattr(execute, "_Actor", MeteredActor)
    monkeypatch.setattr(gpu_shares, "_ENOUGH_S", 0.0)
    number = gpu_shares.GpuShares.number
    monkeypatch.setattr(
        gpu_shares.GpuShares,
        "number",
        lambda self, left, *, workers, start_s: number(self, left, workers=workers, start_s=0.0),
    )
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        with ray_session(ExecutionConfig(address=ray_cluster.address)):
            free = with_execution(spec, workers=0, gpus_per_worker=None)
            deaths = run_on_ray(free, EMPTY_INDEX, cut, receipts.append, say=said.append)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert deaths == 0
    assert len(said) == 1
    assert "2 share one" in said[0]
    assert Counter(one.shard for one in receipts) == Counter(one.shard for one in cut)
    assert any(one.gpu is not None for one in receipts)


def test_an_autoscaling_cluster_is_asked_for_as_many_as_there_is_work_for(
    job: tuple[WorkerSpec, list[ShardWork]],
    ray_cluster: RayCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No room yet is no error, and no more is taken than was asked for."""
    asked: list[list[dict[str, float]]] = []
    monkeypatch.setattr(
        "ray.autoscaler.sdk.request_resources", lambda bundles: asked.append(bundles)
    )
    spec, works = job
    with ray_session(ExecutionConfig(address=ray_cluster.address)):
        grown = with_execution(spec, workers=0, max_workers=2, cpus_per_worker=1)
        run_on_ray(grown, EMPTY_INDEX, works, lambda _: None)
        crew = execute._RayCrew(grown, EMPTY_INDEX)
        assert crew.capacity() == 2
        waits = with_execution(spec, workers=0, max_workers=3, cpus_per_worker=64)
        assert execute._RayCrew(waits, EMPTY_INDEX).capacity() == 0
    assert asked == [[{"CPU": 1.0}] * 2, [{"CPU": 1.0}], []]


@pytest.mark.slow
def test_ray_s_own_metrics_show_the_run(ray_cluster: RayCluster) -> None:
    import ray

    with ray_session(ExecutionConfig(address=ray_cluster.address)):
        live_figures("s3://labels", 5)(3, 1)
        port = ray.nodes()[0]["MetricsExportPort"]
        wanted = 'ray_maskmill_images{.*dataset="s3://labels".*status="left".*} 2.0'
        deadline = time.monotonic() + 60
        text = ""
        while not re.search(wanted, text) and time.monotonic() < deadline:
            time.sleep(1)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                text = answer.read().decode()
    assert re.search(wanted, text), text[-2000:]


def test_no_cluster_at_the_address_is_one_line() -> None:
    with (
        pytest.raises(ExecutionError, match="Ray") as caught,
        ray_session(ExecutionConfig(address="127.0.0.1:1")),
    ):
        pass
    assert "\n" not in str(caught.value)
