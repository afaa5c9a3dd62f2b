"""The training loop: batches in, an averaged net out, everything resumable."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.models.nuclei.decode import Decoding
from pipeline.models.nuclei.net import MAPS, UNet, load_unet, normalise, save_unet
from schemas.config.training import TrainConfig

from .data import CropBatches, TrainingImage, read_split, read_training
from .targets import map_loss
from .validate import picture_maps, score_maps, tune

Report = Callable[[Mapping[str, Any]], None]


def train_nuclei(
    data: Sequence[Path],
    output: Path,
    config: TrainConfig,
    *,
    negatives: Path | None = None,
    init: Path | None = None,
    device: str = "auto",
    resume: bool = False,
    report: Report = lambda row: None,
) -> Mapping[str, Any]:
    """Trains a `unet` and leaves a folder that `--model OUTPUT` loads.

    Args:
        data: Folders with index.json, pictures and 16-bit label maps; splits "train" and "val".
        output: Gets config.json and model.safetensors (the best epoch so far), log.jsonl (a line
            an epoch) and last.pt (everything needed to go on).
        config: How.
        negatives: Folder of pictures that show no nuclei.
        init: Checkpoint folder whose weights to start from, of the same widths.
        device: "auto", "cpu", "cuda", "cuda:N".
        resume: Go on from last.pt; the same epochs then follow as without the interruption.
        report: Called with each line of the log.

    Returns:
        The best epoch's line.

    Raises:
        ValueError: Bad data, an output that is in use, or a last.pt of another configuration.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    output.mkdir(parents=True, exist_ok=True)
    if not resume and (output / "last.pt").exists():
        raise ValueError(f"{output} holds a run already: resume it, or choose another folder")
    if resume and not (output / "last.pt").is_file():
        raise ValueError(f"{output} holds no last.pt to resume from")
    torch.manual_seed(config.seed)
    torch.backends.cudnn.benchmark = True
    run = _Run(output, config, device, report)
    if resume:
        run.restore()
    elif init is not None:
        run.start_from(init)
    return run.fit(partial(read_training, data, negatives), read_split(data, "val"))


class _Run:
    """State of one training run; `last.pt` is its copy on disk."""

    def __init__(self, output: Path, config: TrainConfig, device: str, report: Report) -> None:
        self.output, self.config, self.device, self.report = output, config, device, report
        self.net = UNet(widths=config.widths, outputs=len(MAPS)).to(device)
        self.net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.average = UNet(widths=config.widths, outputs=len(MAPS)).to(device)
        self.average.load_state_dict(self.net.state_dict())
        self.optimizer = torch.optim.AdamW(
            _groups(self.net, config.weight_decay), lr=config.learning_rate
        )
        self.step = 0
        self.best: dict[str, Any] = {}

    def restore(self) -> None:
        """Loads `last.pt`.

        Raises:
            ValueError: It was written under another configuration.
        """
        state = torch.load(self.output / "last.pt", map_location=self.device, weights_only=True)
        if state["config"] != self.config.model_dump_json():
            raise ValueError(f"{self.output / 'last.pt'} was written under another configuration")
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.best = state["step"], state["best"]

    def start_from(self, folder: Path) -> None:
        """Takes the weights of a checkpoint folder.

        Raises:
            ValueError: They do not fit `widths`.
        """
        path = folder / "config.json"
        if not path.is_file():
            raise ValueError(f"{folder} holds no config.json")
        weights = load_unet(folder, json.loads(path.read_text("utf-8"))).state_dict()
        try:
            self.net.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"{folder}: other widths than {self.config.widths}") from error
        self.average.load_state_dict(weights)

    def fit(
        self, load: Callable[[], list[TrainingImage]], val: list[TrainingImage]
    ) -> Mapping[str, Any]:
        """Runs the epochs that are left and returns the best one's line."""
        config = self.config
        total = config.epochs * config.steps
        batches = CropBatches(
            load,
            shares=config.shares,
            restain=config.restain,
            size=config.size,
            batch_size=config.batch_size,
            batches=total,
            seed=config.seed,
        )
        cuda = self.device.startswith("cuda")
        loader = DataLoader(
            cast("Dataset[dict[str, Tensor]]", batches),
            batch_size=None,
            sampler=range(self.step, total),
            num_workers=config.workers,
            # A forked copy of OpenCV's thread pool hangs: workers start fresh.
            multiprocessing_context="forkserver" if config.workers else None,
            pin_memory=cuda,
            prefetch_factor=4 if config.workers else None,
        )
        losses = torch.zeros((), device=self.device)
        start = time.perf_counter()
        for batch in loader:
            losses += self._learn(batch, total)
            if self.step % config.steps:
                continue
            epoch = self.step // config.steps
            line: dict[str, Any] = {
                "epoch": epoch,
                "loss": round(losses.item() / config.steps, 5),
                "learning_rate": round(self.optimizer.param_groups[0]["lr"], 8),
                "images_per_second": round(
                    config.steps * config.batch_size / (time.perf_counter() - start), 1
                ),
            }
            if epoch % config.validate_every == 0 or epoch == config.epochs:
                line |= self._validate(val, epoch)
            self._log(line)
            losses.zero_()
            start = time.perf_counter()
        self._tune(val)
        return self.best

    def _learn(self, batch: dict[str, Tensor], total: int) -> Tensor:
        config = self.config
        warm = min(1.0, (self.step + 1) / max(config.warmup, 1))
        rate = config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * self.step / total))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        image, planes, bounds = (
            batch[key].to(self.device, non_blocking=True) for key in ("image", "planes", "range")
        )
        self.net.train()
        x = normalise(image, bounds[:, 0], bounds[:, 1])
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.split(":")[0], torch.bfloat16):
            logits = self.net(x)
        loss = map_loss(logits, planes)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(config.ema, self.step / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(_floats(self.average), _floats(self.net), 1 - decay)
        return loss.detach()

    def _validate(self, val: list[TrainingImage], epoch: int) -> dict[str, Any]:
        maps = picture_maps(self.average, val, self.device)
        pooled = score_maps(maps, val, Decoding())
        accuracy = {kind: matches.accuracy() for kind, matches in pooled.items()}
        line = {
            "accuracy": {kind: round(values[0], 4) for kind, values in accuracy.items()},
            "mean_accuracy": {
                kind: round(sum(values) / len(values), 4) for kind, values in accuracy.items()
            },
        }
        # The mean over thresholds is steadier than one threshold, and masks matter too.
        metric = line["accuracy"]["all"] + line["mean_accuracy"]["all"]
        if metric > self.best.get("metric", -1):
            self.best = {"epoch": epoch, "metric": metric, **line}
            self._save(self.average, Decoding())
        return line

    def _tune(self, val: list[TrainingImage]) -> None:
        """Chooses the best epoch's thresholds, with its weights as they were stored."""
        config = json.loads((self.output / "config.json").read_text("utf-8"))
        net = load_unet(self.output, config)
        self._save(net, tune(picture_maps(net, val, self.device), val))

    def _save(self, net: UNet, decoding: Decoding) -> None:
        save_unet(
            self.output,
            net,
            widths=self.config.widths,
            postprocess=asdict(decoding),
            training={"config": self.config.model_dump(mode="json"), "val": self.best},
        )

    def _log(self, line: dict[str, Any]) -> None:
        state = {
            "config": self.config.model_dump_json(),
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "best": self.best,
        }
        torch.save(state, self.output / "last.pt.partial")
        os.replace(self.output / "last.pt.partial", self.output / "last.pt")
        with (self.output / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.report(line)


def _groups(net: UNet, weight_decay: float) -> list[dict[str, Any]]:
    """Biases and batch normalisation are not decayed."""
    kernels = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    return [
        {"params": kernels, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _floats(net: UNet) -> list[Tensor]:
    return [value for value in net.state_dict().values() if value.is_floating_point()]
