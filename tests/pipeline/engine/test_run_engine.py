"""Little work stays in one process, on its own; the labels are those of Ray, byte for byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pictures import write_pictures
from ray_cluster import RayCluster

from pipeline.engine import execute
from pipeline.engine.progress import LineProgress
from pipeline.engine.run import RunResult, label
from schemas.config.job import JobConfig

ROOT = Path(__file__).resolve().parents[3]
COUNT = 8


class Told(LineProgress):
    """Keeps what a run says."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.phases: list[str] = []

    def phase(self, text: str) -> None:
        self.phases.append(text)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    write_pictures(tmp_path / "in", COUNT)
    return tmp_path


def run(
    folder: Path, output: str = "out", *, progress: Told | None = None, **execution: Any
) -> RunResult:
    data = {
        "input": {"uri": str(folder / "in")},
        "output": str(folder / output),
        "model": {"name": "unet-nuclei", "device": "cpu"},
        "execution": {"shard_size": 2, **execution},
    }
    return label(JobConfig.parse(data), progress=progress, export=False, report=False)


def published(folder: Path, output: str = "out") -> dict[str, bytes]:
    root = folder / output
    manifest = json.loads((root / "manifest.json").read_bytes())
    paths = [
        root / table / f"{part['name']}.parquet"
        for part in manifest["parts"]
        for table in ("images", "annotations")
    ]
    return {
        str(path.relative_to(root)): path.read_bytes() for path in (*paths, root / "manifest.json")
    }


def test_eight_pictures_need_no_ray_and_are_those_of_ray(
    folder: Path, ray_cluster: RayCluster
) -> None:
    told = Told()
    alone = run(folder, progress=told)
    assert alone.engine == "inline"
    assert f"{COUNT} images: one process, without Ray (execution.engine)" in told.phases
    on_ray = run(folder, "ray", address=ray_cluster.address, workers=2, gpus_per_worker=0)
    assert on_ray.engine == "ray"
    assert on_ray.manifest.objects > COUNT
    assert published(folder) == published(folder, "ray")
    notes = json.loads((folder / "out/run.json").read_bytes())
    assert (notes["engine"], notes["workers"]) == ("inline", 1)
    assert notes["speed"]["workers"] == 1
    for result in (alone, on_ray):
        assert 0 < result.time.busy <= result.time.seconds
        assert "device busy" in str(result.time)


def test_an_engine_of_the_environment_is_taken(
    folder: Path, ray_cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster.address)
    assert run(folder).engine == "ray"
    assert run(folder, "engine", engine="inline").engine == "inline"
    assert run(folder, "inline", inline=True).engine == "inline"


def test_a_worker_of_this_process_has_the_threads_of_one_of_ray(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    seen: list[int] = []

    def noted(*arguments: Any) -> None:
        seen.append(torch.get_num_threads())
        run_inline(*arguments)

    run_inline = execute.run_inline
    monkeypatch.setattr(execute, "run_inline", noted)
    before = torch.get_num_threads()
    run(folder)
    assert seen == [1]
    assert torch.get_num_threads() == before


_KILLED = """
import os, signal, sys
from pipeline.engine import worker
from pipeline.engine.run import label
from schemas.config.job import JobConfig

write = worker.write_receipt
done = []

def dies(*arguments):
    if done:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(write(*arguments))

worker.write_receipt = dies
label(JobConfig.parse({
    "input": {"uri": sys.argv[1]}, "output": sys.argv[2], "execution": {"shard_size": 2},
    "model": {"name": "unet-nuclei", "device": "cpu"},
}), export=False, report=False)
"""


@pytest.mark.slow  # starts a Ray of its own
def test_what_a_dead_process_left_is_finished_on_ray(folder: Path) -> None:
    """A picture that kills its process would kill every further one; Ray finds it."""
    run(folder, "calm")
    out = folder / "out"
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, str(folder / "in"), str(out)],
        cwd=ROOT,
        env=dict(os.environ),
        check=False,
        timeout=180,
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(list((out / "receipts").iterdir())) == 1
    assert not (out / "manifest.json").exists()
    again = run(folder)
    assert again.engine == "ray"
    assert 0 < again.computed < COUNT
    assert published(folder) == published(folder, "calm")
    picture = next((folder / "in").rglob("*.png"))
    picture.with_name("later.png").write_bytes(picture.read_bytes())
    assert run(folder).engine == "inline"  # that run ended, so this one need not be careful
