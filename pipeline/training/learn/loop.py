"""The training loop: batches in, an averaged network out, everything resumable."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from schemas.config.training import SemanticTrainConfig, TrainConfig

from .group import Group

Report = Callable[[Mapping[str, Any]], None]


class Stream(Protocol):
    """Batch number i, a pure function of i: each name's array has the crops on its first axis."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, npt.NDArray]: ...


class TrainingLoop(ABC):
    """State of one training run; `last.pt` is its copy on disk.

    Attributes:
        net: The network that learns.
        average: The moving average of its weights, which is validated and stored.
        step: Steps that are done.
        best: Line of the best epoch so far, as `validate` left it.
        log: Lines of all epochs.
    """

    clip = 1.0
    """Largest norm of a step's gradient."""

    def __init__(
        self,
        net: nn.Module,
        config: SemanticTrainConfig | TrainConfig,
        *,
        output: Path,
        facts: Mapping[str, Any],
        device: str,
        report: Report,
        group: Group | None = None,
    ) -> None:
        """Begins at step 0.

        Args:
            net: On its device.
            config: How.
            output: Gets log.jsonl and last.pt.
            facts: What the run is of; one that goes on must have the same.
            device: "cpu", "cuda", "cuda:N".
            report: Called with each line of the log, on worker 0.
            group: The workers; None = one.
        """
        self.net: Any = net
        self.average: Any = copy.deepcopy(net).eval().requires_grad_(False)
        self.output, self.device, self.report = output, device, report
        self.group = group or Group()
        self.facts = {"config": config.model_dump(mode="json"), **facts}
        self.optimizer = torch.optim.AdamW(
            _groups(net, config.weight_decay), lr=config.learning_rate
        )
        self.step, self.best, self.log = 0, dict[str, Any](), list[dict[str, Any]]()
        self._pace = config

    @abstractmethod
    def loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The scalar that the network is blamed for, from a batch on the CPU."""

    @abstractmethod
    def validate(self, epoch: int) -> dict[str, Any]:
        """Figures of `average`; stores it, and sets `best`, where they are the best so far."""

    def is_over(self) -> bool:
        """Whether further epochs would bring nothing."""
        return False

    def rate(self, total: int) -> float:
        """The learning rate of this step: a linear warm-up, and a cosine over all steps."""
        return self.warmed() * 0.5 * (1 + math.cos(math.pi * self.step / total))

    def warmed(self) -> float:
        """The learning rate of this step without the cosine."""
        pace = self._pace
        return pace.learning_rate * min(1.0, (self.step + 1) / max(pace.warmup, 1))

    def restore(self) -> None:
        """Loads `last.pt`.

        Raises:
            ValueError: It is of another run.
        """
        path = self.output / "last.pt"
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state.get("facts") != json.dumps(self.facts):
            raise ValueError(f"{path} was written under another configuration or from other data")
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.best, self.log = state["step"], state["best"], state["log"]

    def fit(self, batches: Stream, steps: int, *, loaders: int) -> dict[str, Any]:
        """Runs the epochs that are left and returns the best one's line.

        Args:
            batches: `steps` for each epoch.
            steps: An epoch.
            loaders: Processes that draw batches; 0 = none.

        Raises:
            ValueError: Bad data, or a loss that is no number.
        """
        pace = self._pace
        total = pace.epochs * steps
        loader = DataLoader(
            cast("Dataset[dict[str, Tensor]]", batches),
            batch_size=None,
            sampler=range(self.step, total),
            num_workers=loaders,
            # A forked copy of OpenCV's thread pool hangs: processes start fresh.
            multiprocessing_context="forkserver" if loaders else None,
            pin_memory=self.device.startswith("cuda"),
            prefetch_factor=4 if loaders else None,
        )
        losses = torch.zeros((), device=self.device)
        start = time.perf_counter()
        if self.is_over():
            return self.best
        for batch in _drawn(loader):
            losses += self._learn(batch, total)
            if self.step % steps:
                continue
            epoch = self.step // steps
            loss = losses.item() / steps
            if not math.isfinite(loss):
                raise ValueError(f"the loss of epoch {epoch} is {loss}: lower learning_rate")
            seconds = time.perf_counter() - start
            line: dict[str, Any] = {
                "epoch": epoch,
                "loss": round(loss, 6),
                "learning_rate": round(self.optimizer.param_groups[0]["lr"], 8),
            }
            if epoch % pace.validate_every == 0 or epoch == pace.epochs:
                line |= self.validate(epoch)
            self.log.append(line)
            self._keep(images_per_second=round(steps * pace.batch_size / seconds, 1))
            if self.is_over():
                break
            losses.zero_()
            start = time.perf_counter()
        return self.best

    def _learn(self, batch: dict[str, Tensor], total: int) -> Tensor:
        rate = self.rate(total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.net.train()
        loss = self.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = list(self.net.parameters())
        self.group.share_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, self.clip)
        self.optimizer.step()
        self.step += 1
        decay = min(self._pace.ema, self.step / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(_floats(self.average), _floats(self.net), 1 - decay)
        return loss.detach()

    def _keep(self, **passing: Any) -> None:
        """Writes last.pt and the log, and reports the epoch; `passing` is not kept."""
        if self.group.rank == 0:
            state = {
                "facts": json.dumps(self.facts),
                "net": self.net.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "best": self.best,
                "log": self.log,
            }
            torch.save(state, self.output / "last.pt.partial")
            os.replace(self.output / "last.pt.partial", self.output / "last.pt")
            partial = self.output / "log.jsonl.partial"
            partial.write_text("".join(json.dumps(line) + "\n" for line in self.log), "utf-8")
            os.replace(partial, self.output / "log.jsonl")
            self.report({**self.log[-1], **passing})
        self.group.wait()


def _drawn(loader: Iterable[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """The batches; what a process says of bad data, in the line that it said."""
    try:
        yield from loader
    except ValueError as error:
        last = str(error).strip().splitlines()[-1]
        raise ValueError(last.removeprefix("ValueError: ")) from error


def _groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Biases and normalisations are not decayed."""
    kernels = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    return [
        {"params": kernels, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _floats(net: nn.Module) -> list[Tensor]:
    return [value for value in net.state_dict().values() if value.is_floating_point()]
