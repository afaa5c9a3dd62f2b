"""TrainingJob: everything that a worker needs to learn, found once by the driver."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.semantic_train_config import Architecture, SemanticTrainConfig

from .batches import Batches
from .examples import ExamplesPlan


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
        from pipeline.models.semantic_group import Group
        from pipeline.models.semantic_training import run_semantic_training

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
