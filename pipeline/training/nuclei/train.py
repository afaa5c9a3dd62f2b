"""How a `unet` is trained: its loss, its validation, its checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.models.checkpoints.info import describe
from pipeline.models.nuclei.decode import Decoding
from pipeline.models.nuclei.net import MAPS, UNet, load_unet, normalise, save_unet
from pipeline.training.learn.loop import Report, TrainingLoop
from schemas.config.training import TrainConfig

from .data import CropBatches, TrainingImage, read_split, read_training
from .targets import map_loss
from .validate import picture_maps, score_maps, tune


def train_nuclei(
    data: Sequence[Path],
    output: Path,
    config: TrainConfig,
    *,
    negatives: Path | None = None,
    init: str = "",
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
        init: Model whose weights to start from: a `unet` of the same widths, by name or folder.
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
    loop = _NucleiLoop(config, read_split(data, "val"), output, device, report)
    if resume:
        loop.restore()
    elif init:
        loop.start_from(init)
    batches = CropBatches(
        partial(read_training, data, negatives),
        shares=config.shares,
        restain=config.restain,
        size=config.size,
        batch_size=config.batch_size,
        batches=config.epochs * config.steps,
        seed=config.seed,
    )
    loop.fit(batches, config.steps, loaders=config.workers)
    loop.tune()
    return loop.best


class _NucleiLoop(TrainingLoop):
    def __init__(
        self,
        config: TrainConfig,
        val: Sequence[TrainingImage],
        output: Path,
        device: str,
        report: Report,
    ) -> None:
        net = UNet(widths=config.widths, outputs=len(MAPS)).to(device)
        super().__init__(net, config, output=output, facts={}, device=device, report=report)
        self.net.to(memory_format=torch.channels_last)
        self.config, self.val = config, val

    def start_from(self, model: str) -> None:
        """Takes the weights of a `unet`.

        Raises:
            ValueError: It is another family's, or they do not fit `widths`.
        """
        info = describe(model)
        if info.family != "unet":
            raise ValueError(f"init: {model!r} is of the family {info.family!r}, not 'unet'")
        weights = load_unet(Path(info.folder), info.config).state_dict()
        try:
            self.net.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(
                f"init: {model!r} has other widths than {self.config.widths}"
            ) from error
        self.average.load_state_dict(weights)

    def loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Of a batch with image, planes and range."""
        image, planes, bounds = (
            batch[key].to(self.device, non_blocking=True) for key in ("image", "planes", "range")
        )
        x = normalise(image, bounds[:, 0], bounds[:, 1])
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.split(":")[0], torch.bfloat16):
            logits = self.net(x)
        return map_loss(logits, planes)

    def validate(self, epoch: int) -> dict[str, Any]:
        maps = picture_maps(self.average, self.val, self.device)
        pooled = score_maps(maps, self.val, Decoding())
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

    def tune(self) -> None:
        """Chooses the best epoch's thresholds, with its weights as they were stored."""
        config = json.loads((self.output / "config.json").read_text("utf-8"))
        net = load_unet(self.output, config)
        self._save(net, tune(picture_maps(net, self.val, self.device), self.val))

    def _save(self, net: UNet, decoding: Decoding) -> None:
        save_unet(
            self.output,
            net,
            widths=self.config.widths,
            postprocess=asdict(decoding),
            training={"config": self.config.model_dump(mode="json"), "val": self.best},
        )
