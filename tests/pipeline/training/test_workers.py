"""Two workers of Ray Train learn what one learns."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from ray_cluster import RayCluster
from tiny_scenes import write_scenes

from pipeline.training import workers
from pipeline.training.categories import numbered_table
from pipeline.training.examples import ExamplesPlan
from pipeline.training.semantic import train_semantic
from pipeline.training.workers import TrainingJob
from schemas.config.training import SemanticTrainConfig


def config(count: int, **changes: Any) -> SemanticTrainConfig:
    return SemanticTrainConfig.parse(
        {
            "epochs": 2,
            "steps": 3,
            "batch_size": 4,
            "crop": 32,
            "loaders": 0,
            "warmup": 1,
            "workers": count,
            "net": {"encoder": "resnet18", "depth": 3, "widths": [32, 16, 16]},
            **changes,
        }
    )


@pytest.mark.slow
def test_two_workers_learn_what_one_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: RayCluster
):
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster.address)
    place = write_scenes(tmp_path / "data", 4)
    logs = []
    for count in (1, 2):
        lines: list[Any] = []
        output = tmp_path / str(count)
        best = train_semantic(
            [place], output, config(count), val=place, device="cpu", report=lines.append
        )
        assert [line["epoch"] for line in lines] == [1, 2]
        assert best == json.loads((output / "training.json").read_text())["best"]
        logs.append([json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()])
    for one, two in zip(*logs, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=2e-3)
        assert two["pixel_accuracy"] == pytest.approx(one["pixel_accuracy"], abs=0.01)


def job(output: Path) -> TrainingJob:
    plan = ExamplesPlan(
        places=(),
        numbers=(),
        names=(),
        rests=(),
        categories=numbered_table({1, 2}),
    )
    output.mkdir()
    return TrainingJob(output, config(2), "unet", "", plan, plan, (1.0, 1.0), {})


def test_what_a_worker_says_reaches_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def work(self: TrainingJob, report: Any, *, together: bool) -> None:
        assert together
        assert self.device == "cpu"
        raise ValueError("0.png cannot be decoded")

    monkeypatch.setattr(TrainingJob, "work", work)
    with pytest.raises(ValueError, match="cannot be decoded"):
        workers._work({"job": job(tmp_path / "out"), "on_gpu": False})
    said = (tmp_path / "out" / workers._FAILED).read_text()
    assert json.loads(said) == "0.png cannot be decoded"


def test_lines_of_the_log_are_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "_LOOK", 0.01)
    own = job(tmp_path / "out")
    (own.output / "log.jsonl").write_text('{"epoch": 1}\n')
    lines: list[Any] = []
    stop = threading.Event()
    seen = threading.Event()

    def report(line: Any) -> None:
        lines.append(line["epoch"])
        seen.set()

    watcher = threading.Thread(target=workers._watch, args=(own, report, stop))
    watcher.start()
    assert seen.wait(10)
    (own.output / "log.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n')
    stop.set()
    watcher.join(10)
    assert lines == [1, 2]
