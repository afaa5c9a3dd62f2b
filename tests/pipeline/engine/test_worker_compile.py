"""`model.compile = "auto"`: a worker measures, loads its model compiled or goes on, and says so."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from recording_model import RecordingSegmenter, png, shard_work, worker_spec

from pipeline.engine import worker
from pipeline.engine.devices import compile_choice
from pipeline.engine.worker import ShardWorker, load_model
from schemas.config.job import JobConfig

NAMES = [f"{i:02d}.png" for i in range(4)]
FILES = {name: png(seed) for seed, name in enumerate(NAMES)}


class Idle:
    """In place of the meter of a GPU that is not there."""

    def __init__(self, _device: str) -> None: ...

    def take(self) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize(("pays_s", "loads"), [(0.0, [False, True]), (1e9, [False])])
def test_a_worker_compiles_where_it_pays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pays_s: float, loads: list[bool]
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, FILES)
    model = spec.config.model.model_copy(update={"compile": "auto"})
    config = spec.config.model_copy(update={"model": model})
    spec = replace(spec, config=config, device="cuda", images=1000)
    made: list[bool] = []
    build = RecordingSegmenter.__init__

    def built(self: RecordingSegmenter, info, options, tasks) -> None:
        made.append(options.compile)
        build(self, info, options, tasks)

    monkeypatch.setattr(RecordingSegmenter, "__init__", built)
    monkeypatch.setattr(worker, "GpuMeter", Idle)
    monkeypatch.setattr(compile_choice, "COLD_S", pays_s)
    first = ShardWorker(spec)
    work = shard_work(NAMES)
    receipt = first.run(work, map(first.preparer.prepare, work.records))
    assert made == loads
    assert receipt.part.images == len(NAMES)
    words = "is compiled" if loads[-1] else "is not compiled"
    assert words in receipt.told
    assert "1000 images a worker" in receipt.told
    made.clear()
    second = ShardWorker(spec)  # does as the first one, whatever it would measure
    monkeypatch.setattr(compile_choice, "COLD_S", 1e9 - pays_s)
    again = second.run(work, map(second.preparer.prepare, work.records))
    assert (made, again.told) == (loads, "")
    first.close()
    second.close()


def test_the_code_of_a_model_is_kept_where_the_job_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, FILES)
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(name, "elsewhere")
    data = {**spec.config.model_dump(), "execution": {"compile_cache": str(tmp_path / "code")}}
    info = replace(spec.info, weights_sha256="ab" * 32)
    load_model(JobConfig.parse(data), info, spec.tasks, "cpu")
    folder = tmp_path / "code" / ("ab" * 8)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(folder / "inductor")
    assert os.environ["TRITON_CACHE_DIR"] == str(folder / "triton")
