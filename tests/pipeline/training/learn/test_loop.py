"""The loop itself: what it keeps, what it refuses, in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_scenes import UNLABELLED, scene

from pipeline.training.learn import loop, semantic
from pipeline.training.learn.semantic import run_semantic_training
from schemas.categories import Categories, Category
from schemas.config.training import SemanticTrainConfig

TABLE = Categories(
    (
        Category(1, "sky", False, "#3060e0"),
        Category(2, "meadow", False, "#40a040"),
        Category(3, "kite", True, "#d03020"),
    )
)


def pair(number: int) -> tuple[Any, Any]:
    pixels, values = scene(number)
    return pixels, np.where(values == UNLABELLED, -1, values.astype(np.int16) - 1).astype(np.int16)


class Stream:
    """Batches of two whole pictures' left parts."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        pairs = [pair((2 * index + i) % 4) for i in range(2)]
        return {
            "image": np.stack([pixels[:, :64].transpose(2, 0, 1) for pixels, _ in pairs]),
            "label": np.stack([label_map[:, :64] for _, label_map in pairs]),
        }


def run(output: Path, *, steps: int = 2, report: Any = None, **changes: Any) -> dict[str, Any]:
    values = {"epochs": 2, "batch_size": 2, "crop": 64, "loaders": 0, "warmup": 1, **changes}
    values.setdefault("net", {"encoder": "resnet18", "depth": 3, "widths": [32, 16, 16]})
    config = SemanticTrainConfig.parse(values)
    return run_semantic_training(
        output,
        config,
        architecture="unet",
        init="",
        categories=TABLE,
        weights=(1.0, 2.0, 1.0),
        batches=Stream(config.epochs * steps),
        steps=steps,
        val=[pair(number) for number in range(2)],
        facts={"licence": "MIT"},
        device="cpu",
        resume=False,
        report=report or (lambda line: None),
    )


def test_rates_warm_up_and_fall(tmp_path: Path):
    run(tmp_path, steps=1, epochs=5, warmup=2, learning_rate=1e-3, validate_every=5)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    rates = [line["learning_rate"] for line in lines]
    expected = [
        1e-3 * min(1, (step + 1) / 2) * 0.5 * (1 + np.cos(np.pi * step / 5)) for step in range(5)
    ]
    assert rates == pytest.approx(expected, abs=1e-8)
    assert [("mean_iou" in line) for line in lines] == [False] * 4 + [True]


def test_a_constant_schedule_is_constant(tmp_path: Path):
    run(tmp_path, steps=1, epochs=2, schedule="constant", learning_rate=1e-3)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["learning_rate"] for line in lines] == [1e-3, 1e-3]


def test_bfloat16_learns_too(tmp_path: Path):
    best = run(tmp_path, precision="bf16", loss="cross-entropy+dice", ema=0)
    assert 0 < best["pixel_accuracy"] <= 1
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert all(v.dtype == torch.float32 for v in state["net"].values() if v.is_floating_point())


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(logits: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return logits.sum() * float("nan")

    monkeypatch.setattr(semantic, "semantic_loss", broken)
    with pytest.raises(ValueError, match="the loss of epoch 1 is nan: lower learning_rate"):
        run(tmp_path)
    assert not (tmp_path / "last.pt").exists()


def test_a_full_gpu_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any, **__: Any) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(semantic, "semantic_loss", full)
    with pytest.raises(ValueError, match="lower batch_size or crop"):
        run(tmp_path)


def test_what_a_loader_says_is_one_line():
    def loader() -> Iterator[dict[str, torch.Tensor]]:
        raise ValueError(
            "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent "
            'call last):\n  File "x.py", line 3\nValueError: 3.png cannot be decoded: cut\n'
        )
        yield {}

    with pytest.raises(ValueError, match=r"^3\.png cannot be decoded: cut$"):
        list(loop._drawn(loader()))
