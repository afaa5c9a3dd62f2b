"""`execution.reproducible`: one instruction set in each worker, set before torch is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pictures import write_pictures
from ray_cluster import RayCluster

from pipeline.engine.devices.placement import INSTRUCTIONS
from pipeline.engine.execute import run_inline, run_on_ray
from pipeline.engine.prepare import ShardWork, WorkerSpec
from pipeline.engine.session import ray_session
from pipeline.engine.shards import Listing
from pipeline.errors import ExecutionError
from pipeline.ledger.reuse import EMPTY_INDEX
from pipeline.models.checkpoints.info import describe
from pipeline.readers import Reader, open_reader
from schemas.config.job import ExecutionConfig, JobConfig
from schemas.records import ImageRecord

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class TellingReader:
    """Reads like `inner`, and writes down the environment that it reads in."""

    inner: Reader
    notes: Path

    def list(self) -> Iterator[ImageRecord]:
        return self.inner.list()

    def read(self, record: ImageRecord) -> bytes:
        found = {key: os.environ.get(key) for key in INSTRUCTIONS}
        (self.notes / f"{os.getpid()}.json").write_text(json.dumps(found))
        return self.inner.read(record)


@pytest.fixture
def job(tmp_path: Path) -> tuple[WorkerSpec, list[ShardWork]]:
    write_pictures(tmp_path / "in", 4)
    config = JobConfig.parse(
        {
            "input": {"uri": str(tmp_path / "in")},
            "output": str(tmp_path / "out"),
            "model": {"name": "otsu"},
            "execution": {"workers": 1, "gpus_per_worker": 0, "reproducible": True},
        }
    )
    reader = open_reader(config.input)
    listing = Listing(reader.list())
    works = [
        ShardWork(s.id, s.token, tuple(listing.records(s)))
        for s in listing.shards(run="r", mean_size=4)
    ]
    info = describe("otsu")
    spec = WorkerSpec(config, reader, info, ("panoptic",), str(tmp_path / "out"), "r", "cpu")
    return spec, works


def test_torch_of_this_process_is_held() -> None:
    code = (
        "import sys; from pipeline.engine.devices.placement import hold_instructions\n"
        "hold_instructions('cpu'); import torch\n"
        "print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() in (["AVX2", "1"], ["DEFAULT", "1"])  # the latter without AVX2


def test_too_late_is_an_error(job: tuple[WorkerSpec, list[ShardWork]]) -> None:
    import torch  # noqa: F401

    spec, works = job
    with pytest.raises(ExecutionError, match=r"execution\.reproducible: torch was loaded"):
        run_inline(spec, EMPTY_INDEX, works, lambda _: None)


def test_a_gpu_is_not_held(job: tuple[WorkerSpec, list[ShardWork]]) -> None:
    spec, works = job
    with pytest.raises(ExecutionError, match=r"holds CPUs alone.*model\.device"):
        run_inline(replace(spec, device="cuda"), EMPTY_INDEX, works, lambda _: None)


def test_workers_of_ray_start_with_it(
    job: tuple[WorkerSpec, list[ShardWork]], ray_cluster: RayCluster, tmp_path: Path
) -> None:
    from ray import cloudpickle

    spec, works = job
    (tmp_path / "notes").mkdir()
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        with ray_session(ExecutionConfig(address=ray_cluster.address)):
            telling = replace(spec, reader=TellingReader(spec.reader, tmp_path / "notes"))
            run_on_ray(telling, EMPTY_INDEX, works, lambda _: None)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    notes = [json.loads(each.read_text()) for each in (tmp_path / "notes").iterdir()]
    assert notes
    assert all(each == INSTRUCTIONS for each in notes)
