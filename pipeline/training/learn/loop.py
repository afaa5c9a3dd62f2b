"""The training loop of semantic networks: batches in, a checkpoint out, everything resumable."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from schemas.categories import Categories
from schemas.config.training import Architecture, SemanticTrainConfig

from .checkpoint import save_semantic
from .group import Group, share_norms
from .loss import semantic_loss
from .nets import TrainableNet, architecture_of, net_of, new_net

# Figures of a semantic network while it is trained; `jobs.evaluate` has them in full.

Counts = npt.NDArray[np.int64]


def figures(counts: Counts, categories: Categories) -> dict[str, float]:
    """Figures from the pixels of each true (row) and found (column) category.

    iou = TP / (TP + FP + FN), pooled over all pictures. "mean_iou" is over the categories that
    occur on either side, "mean_accuracy" over those that are true somewhere, "foreground_iou" over
    those that occur and are not background. Rounded to 6 digits.

    Args:
        counts: CxC.
        categories: In the order of the rows.
    """
    right, true, found = counts.diagonal(), counts.sum(1), counts.sum(0)
    union = true + found - right
    iou = np.where(union > 0, right / np.maximum(union, 1), np.nan)
    recall = np.where(true > 0, right / np.maximum(true, 1), np.nan)
    front = np.array([not item.is_background for item in categories])
    values = {
        "mean_iou": _mean(iou),
        "pixel_accuracy": right.sum() / max(counts.sum(), 1),
        "mean_accuracy": _mean(recall),
        "foreground_iou": _mean(iou[front]),
    }
    names = [item.name for item in categories]
    values |= {f"iou:{name}": value for name, value in zip(names, iou, strict=True)}
    return {key: round(float(value), 6) for key, value in values.items() if not np.isnan(value)}


def _mean(values: npt.NDArray[np.float64]) -> float:
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else 0.0


Report = Callable[[Mapping[str, Any]], None]

STRIDE = 32
"""Pictures to validate on are padded to multiples of it, as labelling does."""


class Pairs(Protocol):
    """Pictures with maps of category indices: HxWx3 uint8, HxW int16, negative = ignored."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int16]]: ...


class Stream(Protocol):
    """Batch number i, a pure function of i: image Bx3xSxS uint8, label BxSxS int16."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, npt.NDArray]: ...


def run_semantic_training(
    output: Path,
    config: SemanticTrainConfig,
    *,
    architecture: Architecture | None,
    init: str,
    categories: Categories,
    weights: Sequence[float],
    batches: Stream,
    steps: int,
    val: Pairs,
    facts: Mapping[str, Any],
    device: str,
    resume: bool,
    report: Report,
    allow_pickle: bool = False,
    group: Group | None = None,
) -> dict[str, Any]:
    """Trains a network; with several workers, each calls this with its own part of the batches.

    Args:
        output: Gets the checkpoint of the best epoch, log.jsonl and last.pt.
        config: How.
        architecture: Which network; None = that of `init`.
        init: Checkpoint to go on from, "" = random weights.
        categories: In the order of the indices.
        weights: Of the categories in the loss.
        batches: `config.epochs` × `steps` of them.
        steps: An epoch.
        val: Pictures to validate on.
        facts: Goes into the checkpoint's training.json; a resumed run must have the same.
        device: "auto", "cpu", "cuda", "cuda:N".
        resume: Go on from last.pt.
        report: Called with each line of the log, on worker 0.
        allow_pickle: Whether the weights of `init` may be a pickle.
        group: The workers; None = one.

    Returns:
        The best epoch's line.

    Raises:
        ValueError: A network that cannot be built, a last.pt of another run, or a loss that is no
            number.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(config.seed)
    torch.backends.cudnn.benchmark = True
    if init:
        model = net_of(init, categories, allow_pickle=allow_pickle)
        if architecture and architecture_of(model) != architecture:
            raise ValueError(f"init: {init!r} is a {architecture_of(model)}, not a {architecture}")
    else:
        model = new_net(architecture or "unet", config, len(categories))
    run = _Run(output, config, model, categories, weights, facts, device, report, group or Group())
    if resume:
        run.restore()
    try:
        return run.fit(batches, steps, val)
    except torch.cuda.OutOfMemoryError as error:
        raise ValueError("the GPU's memory is too small: lower batch_size or crop") from error


class _Run:
    """State of one training run; `last.pt` is its copy on disk."""

    def __init__(
        self,
        output: Path,
        config: SemanticTrainConfig,
        model: TrainableNet,
        categories: Categories,
        weights: Sequence[float],
        facts: Mapping[str, Any],
        device: str,
        report: Report,
        group: Group,
    ) -> None:
        self.output, self.config, self.model, self.categories = output, config, model, categories
        self.device, self.report, self.group = device, report, group
        self.facts = {"config": config.model_dump(mode="json"), **facts}
        self.net: Any = model.net
        self.net.to(device=device, memory_format=torch.channels_last)
        group.agree(self.net)
        share_norms(self.net, group)
        self.average: Any = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.ask = model.logits()
        even = len(set(weights)) <= 1
        self.weights = None if even else torch.tensor(list(weights), device=device)
        self.optimizer = torch.optim.AdamW(
            _groups(self.net, config.weight_decay), lr=config.learning_rate
        )
        wants_bf16 = config.precision == "bf16" or (
            config.precision == "auto" and device.startswith("cuda")
        )
        self.autocast = torch.autocast(device.split(":")[0], torch.bfloat16, enabled=wants_bf16)
        self.step, self.best, self.log = 0, dict[str, Any](), list[dict[str, Any]]()

    def restore(self) -> None:
        """Loads `last.pt`.

        Raises:
            ValueError: It is of another run.
        """
        path = self.output / "last.pt"
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["facts"] != json.dumps(self.facts):
            raise ValueError(f"{path} was written under another configuration or from other data")
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.best, self.log = state["step"], state["best"], state["log"]

    def fit(self, batches: Stream, steps: int, val: Pairs) -> dict[str, Any]:
        """Runs the epochs that are left and returns the best one's line."""
        config = self.config
        total = config.epochs * steps
        loader = DataLoader(
            cast("Dataset[dict[str, Tensor]]", batches),
            batch_size=None,
            sampler=range(self.step, total),
            num_workers=config.loaders,
            # A forked copy of OpenCV's thread pool hangs: processes start fresh.
            multiprocessing_context="forkserver" if config.loaders else None,
            pin_memory=self.device.startswith("cuda"),
            prefetch_factor=4 if config.loaders else None,
        )
        losses = torch.zeros((), device=self.device)
        start = time.perf_counter()
        if self._is_over():
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
            if epoch % config.validate_every == 0 or epoch == config.epochs:
                line |= self._validate(val, epoch)
            self.log.append(line)
            self._keep(images_per_second=round(steps * config.batch_size / seconds, 1))
            if self._is_over():
                break
            losses.zero_()
            start = time.perf_counter()
        return self.best

    def _learn(self, batch: dict[str, Tensor], total: int) -> Tensor:
        config = self.config
        rate = config.learning_rate * min(1.0, (self.step + 1) / max(config.warmup, 1))
        if config.schedule == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * self.step / total))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # A resumed run drops the same activations as one that was not interrupted.
        torch.manual_seed(config.seed * 1_000_003 + self.step * 64 + self.group.rank)
        image, label = (batch[key].to(self.device, non_blocking=True) for key in ("image", "label"))
        self.net.train()
        with self.autocast:
            logits = self.ask(self.net, self.model.normalised(image))
        loss = semantic_loss(
            logits,
            label,
            weights=self.weights,
            dice=config.loss == "cross-entropy+dice",
            group=self.group,
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = list(self.net.parameters())
        self.group.share_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        self.optimizer.step()
        self.step += 1
        decay = min(config.ema, self.step / (self.step + 10)) if config.ema else 0.0
        with torch.no_grad():
            torch._foreach_lerp_(_floats(self.average), _floats(self.net), 1 - decay)
        return loss.detach()

    @torch.inference_mode()
    def _validate(self, val: Pairs, epoch: int) -> dict[str, Any]:
        """Figures over whole pictures, and the checkpoint where they are the best so far."""
        size = len(self.categories)
        counts = torch.zeros(size * size, dtype=torch.int64, device=self.device)
        for number in range(self.group.rank, len(val), self.group.size):
            pixels, label_map = val[number]
            found = self._found(pixels)
            true = (
                torch.from_numpy(np.require(label_map, requirements=["C", "W"]))
                .to(self.device)
                .long()
            )
            teaches = true >= 0
            counts += torch.bincount((true * size + found)[teaches], minlength=size * size)
        if self.group.size > 1:
            torch.distributed.all_reduce(counts)
        line = figures(counts.view(size, size).cpu().numpy(), self.categories)
        if self.config.best_by not in line and self.config.best_by.startswith("iou:"):
            line[self.config.best_by] = 0.0
        better = line[self.config.best_by] > self.best.get(self.config.best_by, -1.0)
        if better:
            self.best = {"epoch": epoch, **line}
            if self.group.rank == 0:
                self._save()
        return line

    def _found(self, pixels: npt.NDArray[np.uint8]) -> Tensor:
        """HxW, the index of each pixel's best category."""
        height, width = pixels.shape[:2]
        image = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(self.device)
        x = self.model.normalised(image.permute(2, 0, 1)[None])
        x = functional.pad(x, (0, -width % STRIDE, 0, -height % STRIDE))
        with self.autocast:
            logits = self.ask(self.average, x)
        return logits[0, :, :height, :width].argmax(0)

    def _is_over(self) -> bool:
        """Whether the last `patience` validations brought nothing better."""
        checks = [line["epoch"] for line in self.log if self.config.best_by in line]
        since = sum(epoch > self.best.get("epoch", 0) for epoch in checks)
        return 0 < self.config.patience <= since

    def _save(self) -> None:
        save_semantic(
            self.output,
            self.model,
            self.average,
            categories=self.categories,
            licence=str(self.facts.get("licence", "unknown")),
            training={**self.facts, "best": self.best},
        )

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
