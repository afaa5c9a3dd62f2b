"""Several GPUs, or several processes, learn together: the one file of training that knows Ray."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import ExecutionError
from pipeline.storage.local import socket_folder
from schemas.config.training import Architecture, SemanticTrainConfig

from .batches import Batches
from .examples import ExamplesPlan

# TrainingJob: everything that a worker needs to learn, found once by the driver.


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """A run of training; travels to every worker.

    Attributes:
        output: Absolute; on several machines a folder that all see.
        config: How.
        architecture: Which network; None = that of `init`.
        init: Checkpoint to go on from, "" = random weights.
        learn: Pictures to learn from.
        val: Pictures to validate on.
        weights: Of the categories in the loss.
        facts: What the checkpoint says of its origin.
        device: "auto", "cpu", "cuda", "cuda:N".
        resume: Go on from last.pt.
        allow_pickle: Whether the weights of `init` may be a pickle.
    """

    output: Path
    config: SemanticTrainConfig
    architecture: Architecture | None
    init: str
    learn: ExamplesPlan
    val: ExamplesPlan
    weights: tuple[float, ...]
    facts: Mapping[str, Any]
    device: str = "auto"
    resume: bool = False
    allow_pickle: bool = False

    @property
    def steps(self) -> int:
        """Optimiser steps an epoch."""
        return self.config.steps or -(-len(self.learn.numbers) // self.config.batch_size)

    def work(
        self, report: Callable[[Mapping[str, Any]], None], *, together: bool = False
    ) -> dict[str, Any]:
        """Learns, in this process. Imports torch.

        Args:
            report: Called with each line of the log, on worker 0.
            together: One of the workers that torch.distributed knows.

        Returns:
            The best epoch's line.
        """
        from pipeline.training.learn.group import Group
        from pipeline.training.learn.semantic import run_semantic_training

        group = Group.current() if together else Group()
        config = self.config
        batches = Batches(
            self.learn,
            crop=config.crop,
            batch_size=config.batch_size,
            batches=config.epochs * self.steps,
            augment=config.augment,
            augmented=config.augmented,
            shares=config.shares,
            seed=config.seed,
            rank=group.rank,
            workers=group.size,
        )
        return run_semantic_training(
            self.output,
            config,
            architecture=self.architecture,
            init=self.init,
            categories=self.learn.categories,
            weights=self.weights,
            batches=batches,
            steps=self.steps,
            val=self.val.open(),
            facts=self.facts,
            device=self.device,
            resume=self.resume,
            report=report,
            allow_pickle=self.allow_pickle,
            group=group,
        )


_FAILED = "failed.json"
"""Where a worker writes what is wrong with the data or the network."""
_LOOK = 0.5
"""Seconds between looks at the log."""


def learn_together(job: TrainingJob, report: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Runs `job.config.workers` workers with Ray Train, each with a part of every batch.

    Worker 0 writes; with RAY_ADDRESS on several machines, the output must be a folder that all of
    them see.

    Args:
        job: What to learn.
        report: Called with each line of the log.

    Returns:
        The best epoch's line.

    Raises:
        ExecutionError: A worker died; last.pt is that of the last epoch.
        ValueError: What a worker said of its data or its network; Ray Train lacks pandas.
    """
    if importlib.util.find_spec("pandas") is None:
        raise ValueError(
            "training.workers: Ray Train, which several workers need, wants pandas: "
            "pip install 'maskmill[train]', or --workers 1"
        )
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(job, report, stop), daemon=True)
    failed = job.output / _FAILED
    failed.unlink(missing_ok=True)
    with _connected() as scratch:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        on_gpu = _on_gpu(job.device)
        trainer = TorchTrainer(
            _work,
            train_loop_config={"job": job, "on_gpu": on_gpu},
            scaling_config=ScalingConfig(
                num_workers=job.config.workers,
                use_gpu=on_gpu,
                # Learning on CPUs is for tests and laptops, which may have fewer than workers.
                resources_per_worker=None if on_gpu else {"CPU": 0.1},
            ),
            torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
            run_config=RunConfig(name="train", storage_path=scratch),
        )
        watcher.start()
        try:
            trainer.fit()
        except Exception as error:
            if failed.exists():
                raise ValueError(json.loads(failed.read_text("utf-8"))) from error
            raise ExecutionError(f"training stopped: {_last_line(error)}") from error
        finally:
            stop.set()
            watcher.join()
            failed.unlink(missing_ok=True)
    return json.loads((job.output / "training.json").read_text("utf-8"))["best"]


@contextmanager
def _connected() -> Iterator[str]:
    """Ray for the length of the block, of RAY_ADDRESS or of our own; a folder for its notes."""
    # `uv run` would make Ray build an environment for each worker; they share ours.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    import ray

    quiet: dict[str, Any] = {"logging_level": logging.CRITICAL, "log_to_driver": False}
    folder = socket_folder()
    began = not ray.is_initialized()
    try:
        if began:
            address = os.environ.get("RAY_ADDRESS", "local")
            own = {"include_dashboard": False, "_temp_dir": folder} if address == "local" else {}
            ray.init(address=address, **own, **quiet)
        yield folder
    except (ConnectionError, OSError) as error:
        raise ExecutionError(f"Ray: {_last_line(error)}") from error
    finally:
        if began:
            ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _work(settings: dict[str, Any]) -> None:
    """One worker's life."""
    from ray.train.torch import get_device

    job: TrainingJob = settings["job"]
    device = str(get_device()) if settings["on_gpu"] else "cpu"
    try:
        replace(job, device=device).work(lambda line: None, together=True)
    except ValueError as error:
        (job.output / _FAILED).write_text(json.dumps(str(error)), "utf-8")
        raise


def _watch(
    job: TrainingJob, report: Callable[[Mapping[str, Any]], None], stop: threading.Event
) -> None:
    """Reports lines as they come into the log."""
    path = job.output / "log.jsonl"
    shown = len(_lines(path)) if job.resume else 0
    over = False
    while not over:
        over = stop.wait(_LOOK)
        for line in _lines(path)[shown:]:
            report(json.loads(line))
            shown += 1


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.is_file() else []


def _on_gpu(device: str) -> bool:
    """Whether workers learn on GPUs: as asked, or where the cluster has some."""
    import ray

    return device.startswith("cuda") or (
        device == "auto" and ray.cluster_resources().get("GPU", 0) > 0
    )


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
