"""How a semantic network is trained: its loss, its figures, its checkpoint."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.checkpoints.load import write_checkpoint
from pipeline.models.checkpoints.smp import SIDECAR
from pipeline.models.checkpoints.torchvision_files import save_torchvision
from schemas.categories import Categories
from schemas.config.training import Architecture, SemanticTrainConfig

from .group import Group, share_norms
from .loop import Report, Stream, TrainingLoop
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


# What a network is blamed for.

IGNORE = -1
"""Label of a pixel that teaches nothing."""

_ALONE = Group()


def semantic_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    dice: bool = False,
    group: Group = _ALONE,
) -> Tensor:
    """Mean cross-entropy over the pixels that teach, each by the weight of its true category.

    Args:
        logits: BxCxHxW.
        labels: BxHxW integers, `IGNORE` = no pixel.
        weights: C, of the categories; None = 1.
        dice: Add 1 − the mean soft Dice coefficient of the categories that occur in the batch
            (Milletari, Navab, Ahmadi, "V-Net", 3DV 2016, with sums instead of squares).
        group: The batch is that of all workers.

    Returns:
        A scalar, the same on all workers; 0 where no pixel teaches.
    """
    logits, labels = logits.float(), labels.long()
    summed = functional.cross_entropy(
        logits, labels, weight=weights, ignore_index=IGNORE, reduction="sum"
    )
    teaches = labels != IGNORE
    safe = labels.clamp_min(0)
    mass = (weights[safe] * teaches).sum() if weights is not None else teaches.sum()
    both = group.total(torch.stack([summed, mass.float()]))
    loss = both[0] / both[1].detach().clamp_min(1e-6)
    return loss + _dice(logits, safe, teaches, group) if dice else loss


def _dice(logits: Tensor, safe: Tensor, teaches: Tensor, group: Group) -> Tensor:
    chance = logits.softmax(1) * teaches[:, None]
    truth = functional.one_hot(safe, logits.shape[1]).permute(0, 3, 1, 2) * teaches[:, None]
    axes = (0, 2, 3)
    sums = torch.stack([(chance * truth).sum(axes), chance.sum(axes), truth.sum(axes).float()])
    common, found, true = group.total(sums)
    coefficient = 2 * common / (found + true).clamp_min(1e-6)
    occurs = (true > 0).float()
    return 1 - (coefficient * occurs).sum() / occurs.sum().clamp_min(1)


# The loop.

STRIDE = 32
"""Pictures to validate on are padded to multiples of it, as labelling does."""


class Pairs(Protocol):
    """Pictures with maps of category indices: HxWx3 uint8, HxW int16, negative = ignored."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int16]]: ...


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
    loop = _SemanticLoop(
        model,
        config,
        categories=categories,
        weights=weights,
        val=val,
        output=output,
        facts=facts,
        device=device,
        report=report,
        group=group or Group(),
    )
    if resume:
        loop.restore()
    try:
        return loop.fit(batches, steps, loaders=config.loaders)
    except torch.cuda.OutOfMemoryError as error:
        raise ValueError("the GPU's memory is too small: lower batch_size or crop") from error


class _SemanticLoop(TrainingLoop):
    def __init__(
        self,
        model: TrainableNet,
        config: SemanticTrainConfig,
        *,
        categories: Categories,
        weights: Sequence[float],
        val: Pairs,
        output: Path,
        facts: Mapping[str, Any],
        device: str,
        report: Report,
        group: Group,
    ) -> None:
        net: Any = model.net
        net.to(device=device, memory_format=torch.channels_last)
        group.agree(net)
        share_norms(net, group)
        super().__init__(
            net, config, output=output, facts=facts, device=device, report=report, group=group
        )
        self.clip = config.clip
        self.config, self.model, self.categories, self.val = config, model, categories, val
        self.ask = model.logits()
        even = len(set(weights)) <= 1
        self.weights = None if even else torch.tensor(list(weights), device=device)
        wants_bf16 = config.precision == "bf16" or (
            config.precision == "auto" and device.startswith("cuda")
        )
        self.autocast = torch.autocast(device.split(":")[0], torch.bfloat16, enabled=wants_bf16)

    def rate(self, total: int) -> float:
        """Of this step."""
        if self.config.schedule == "cosine":
            return super().rate(total)
        return self.warmed()

    def loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Of a batch with image Bx3xSxS uint8 and label BxSxS int16."""
        # A resumed run drops the same activations as one that was not interrupted.
        torch.manual_seed(self.config.seed * 1_000_003 + self.step * 64 + self.group.rank)
        image, label = (batch[key].to(self.device, non_blocking=True) for key in ("image", "label"))
        with self.autocast:
            logits = self.ask(self.net, self.model.normalised(image))
        return semantic_loss(
            logits,
            label,
            weights=self.weights,
            dice=self.config.loss == "cross-entropy+dice",
            group=self.group,
        )

    @torch.inference_mode()
    def validate(self, epoch: int) -> dict[str, Any]:
        """Figures over whole pictures, and the checkpoint where they are the best so far."""
        size = len(self.categories)
        counts = torch.zeros(size * size, dtype=torch.int64, device=self.device)
        for number in range(self.group.rank, len(self.val), self.group.size):
            pixels, label_map = self.val[number]
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

    def is_over(self) -> bool:
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


# Folders of trained networks, which `--model FOLDER` loads like any other's.

TRAINING = "training.json"
"""How the weights came about, for people; nothing reads it."""


def save_semantic(
    folder: Path,
    model: TrainableNet,
    net: nn.Module,
    *,
    categories: Categories,
    licence: str,
    training: Mapping[str, Any],
) -> None:
    """Writes the folder: the category table first, weights, config.json; each atomically.

    Args:
        folder: Made where it is missing.
        model: What kind of network it is.
        net: Whose weights to store, as float32.
        categories: In the order of the outputs.
        licence: Of the weights.
        training: Goes into `TRAINING`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state: dict[str, Tensor] = dict(net.state_dict())
    if model.family == "torchvision-semantic":
        save_torchvision(
            folder,
            state,
            architecture=model.description,
            categories=categories,
            category_ids=[item.id for item in categories],
            licence=licence,
            shortest_edge=0,
            mean=list(model.mean),
            std=list(model.std),
        )
    else:
        rows = [{**row, "index": i} for i, row in enumerate(categories.to_json())]
        table: dict[str, Any] = {"categories": rows, "licence": licence}
        config = dict(model.description)
        if model.family == "smp":
            table |= {"mode": "multiclass", "mean": list(model.mean), "std": list(model.std)}
        else:
            config |= _names(categories)
            _write(folder / "preprocessor_config.json", _processor(model))
        _write(folder / SIDECAR, table)
        write_checkpoint(folder, state, config)
    _write(folder / TRAINING, training)


def _names(categories: Categories) -> dict[str, Any]:
    names = {str(index): item.name for index, item in enumerate(categories)}
    return {
        "architectures": ["SegformerForSemanticSegmentation"],
        "id2label": names,
        "label2id": {name: int(index) for index, name in names.items()},
    }


def _processor(model: TrainableNet) -> dict[str, Any]:
    return {
        "image_processor_type": "SegformerImageProcessor",
        "do_resize": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(model.mean),
        "image_std": list(model.std),
    }


def _write(path: Path, data: Mapping[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)
