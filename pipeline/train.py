"""Training of the embedded model as one call. Imports no torch until it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from schemas.train_config import TrainConfig


def train(
    data: Path,
    output: Path,
    config: TrainConfig,
    *,
    negatives: Path | None = None,
    init: Path | None = None,
    device: str = "auto",
    resume: bool = False,
    report: Callable[[Mapping[str, Any]], None] = lambda row: None,
) -> Mapping[str, Any]:
    """Trains a `unet` and leaves a folder that `--model OUTPUT` loads.

    Args:
        data: Folder with index.json, pictures and 16-bit label maps; splits "train" and "val".
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
    from pipeline.models.training import run_training

    return run_training(
        data,
        output,
        config,
        negatives=negatives,
        init=init,
        device=device,
        resume=resume,
        report=report,
    )
