"""What is too little for Ray; a Ray of our own leaves nothing behind, however its run ended."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.engine import session as module
from pipeline.engine.session import is_small, sweep_ray_folders, workers_for
from pipeline.models.checkpoints.info import ModelInfo, describe
from pipeline.storage.processes import process_born
from schemas.config.job import JobConfig


def test_folders_of_runs_that_are_gone_are_swept(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_TEMP", tmp_path)
    pid = os.getpid()
    for name, owner in (
        ("mm-dead", "999999999 1"),
        ("mm-again", f"{pid} 1"),
        ("mm-mine", f"{pid} {process_born(pid)}"),
        ("mm-strange", "who knows"),
        ("other", "999999999 1"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "maskmill-owner").write_text(owner)
    (tmp_path / "mm-older").mkdir()  # of a program that left no owner: not ours to judge
    sweep_ray_folders()
    assert sorted(os.listdir(tmp_path)) == ["mm-mine", "mm-older", "mm-strange", "other"]


def job(**changes: object) -> JobConfig:
    return JobConfig.parse({"input": {"uri": "i"}, "output": "o", "model": {"name": "m"}} | changes)


def weighing(folder: Path, megabytes: float) -> ModelInfo:
    """A model whose weights are so large."""
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(int(megabytes * 1e6))
    return replace(describe("unet-nuclei"), folder=str(folder))


def small(config: JobConfig, info: ModelInfo, *sizes: int, gpus: int = 0) -> bool:
    return is_small(config, info, np.array(sizes), count_gpus=lambda: gpus)


def test_work_is_small_by_images_files_weights_and_gpu(tmp_path: Path) -> None:
    plain, kb = job(), 1000
    light, heavy = describe("unet-nuclei"), weighing(tmp_path, 400)
    assert small(plain, describe("otsu"), *[kb] * 100)
    assert small(plain, light, *[kb] * 8)
    assert small(plain, light, *[-1] * 8)  # unknown
    assert not small(plain, light, *[kb] * 500)
    assert not small(plain, light, *[kb] * 500, gpus=1)
    assert not small(plain, light, *[1 << 30] * 8)  # slides
    assert not small(plain, heavy, *[kb] * 8)
    assert small(plain, heavy, kb)  # Ray would give it one worker as well
    assert small(plain, heavy, *[kb] * 8, gpus=1)
    assert not small(job(model={"name": "m", "device": "cpu"}), heavy, *[kb] * 8, gpus=1)
    assert not small(plain, replace(heavy, partner=heavy, weights=()), *[kb] * 8)
    assert not small(job(tiling={"size": 512, "overlap": 8}), light, kb)
    assert not small(job(augment={"copies": 30}), light, *[kb] * 8)


def test_the_gpu_is_not_asked_for_where_it_does_not_matter() -> None:
    def never() -> int:
        raise ValueError("torch was loaded")

    info = describe("unet-nuclei")
    assert is_small(job(), info, np.full(8, 1000), count_gpus=never)
    assert not is_small(job(), info, np.full(5000, 1000), count_gpus=never)


def test_a_start_that_fails_is_tried_once_more(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_TEMP", tmp_path)
    given: list[dict[str, object]] = []

    class Ray:
        def init(self, **options: object) -> None:
            given.append(options)
            if len(given) < 2 or fails:
                raise Exception("The current node timed out during startup")

        def shutdown(self) -> None:
            pass

    fails = False
    folder = module._connect(Ray(), "", {})
    assert [options["_node_ip_address"] for options in given] == ["127.0.0.1"] * 2
    assert os.listdir(tmp_path) == [Path(folder).name]
    fails = True
    with pytest.raises(module.ExecutionError, match="timed out during startup"):
        module._connect(Ray(), "", {})
    assert os.listdir(tmp_path) == [Path(folder).name]


def test_a_worker_is_started_where_it_has_enough_to_do(tmp_path: Path) -> None:
    light, heavy = describe("otsu"), weighing(tmp_path, 2000)
    assert workers_for(job(), light, 8, "cpu") == 1
    assert workers_for(job(), light, 400, "cpu") == 10
    assert workers_for(job(), heavy, 8, "cpu") > 100  # a SAM takes a processor a minute
    assert workers_for(job(), heavy, 8, "cuda:1") == 2
    assert (
        workers_for(job(model={"name": "m", "tta": {"flips": ["horizontal"]}}), light, 400, "cpu")
        == 20
    )
    assert workers_for(job(), light, 0, "cpu") == 0  # not known
    assert workers_for(job(execution={"workers": 3}), light, 8, "cpu") == 0
    assert workers_for(job(tiling={"size": 512}), light, 8, "cpu") == 0
