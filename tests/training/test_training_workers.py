"""Two workers of Ray Train learn what one learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_scenes import write_scenes

from pipeline.training.run import train_semantic
from schemas.semantic_train_config import SemanticTrainConfig


def config(workers: int, **changes: Any) -> SemanticTrainConfig:
    return SemanticTrainConfig.parse(
        {
            "epochs": 2,
            "steps": 3,
            "batch_size": 4,
            "crop": 32,
            "loaders": 0,
            "warmup": 1,
            "workers": workers,
            "net": {"encoder": "resnet18", "depth": 3, "widths": [32, 16, 16]},
            **changes,
        }
    )


@pytest.mark.slow
def test_two_workers_learn_what_one_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    place = write_scenes(tmp_path / "data", 4)
    logs = []
    for workers in (1, 2):
        lines: list[Any] = []
        output = tmp_path / str(workers)
        best = train_semantic(
            [place], output, config(workers), val=place, device="cpu", report=lines.append
        )
        assert [line["epoch"] for line in lines] == [1, 2]
        assert best == json.loads((output / "training.json").read_text())["best"]
        logs.append([json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()])
    for one, two in zip(*logs, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=2e-3)
        assert two["pixel_accuracy"] == pytest.approx(one["pixel_accuracy"], abs=0.01)
    bad = config(2, net={"encoder": "resnet19"})
    with pytest.raises(ValueError, match="resnet19"):
        train_semantic([place], tmp_path / "bad", bad, val=place, device="cpu")
