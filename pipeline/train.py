"""Training of the embedded model, as a configuration and one call. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from schemas.config import Section
from schemas.suggest import nearest


class TrainConfig(Section):
    """How a `unet` is trained. Equal values and data give the same batches in the same order."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    epochs: Annotated[int, Field(ge=1)] = 60
    steps: Annotated[int, Field(ge=1, description="optimiser steps an epoch")] = 250
    batch_size: Annotated[int, Field(ge=1)] = 64
    size: Annotated[int, Field(ge=32, multiple_of=32, description="side of a crop, pixels")] = 256
    widths: Annotated[
        tuple[int, ...], Field(min_length=2, max_length=6, description="channels a resolution")
    ] = (16, 32, 64, 128, 192, 256)
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    warmup: Annotated[int, Field(ge=0, description="steps of linear warm-up")] = 300
    ema: Annotated[float, Field(ge=0, lt=1, description="decay of the averaged weights")] = 0.998
    shares: Annotated[
        dict[str, float], Field(min_length=1, description="kind of picture → share of the crops")
    ] = {  # noqa: RUF012 (pydantic copies it)
        "fluorescence": 0.55,
        "stained_colour": 0.27,
        "brightfield_gray": 0.06,
        "negative": 0.12,
    }
    restain: Annotated[
        float, Field(ge=0, le=1, description="share of crops painted anew as stained tissue")
    ] = 0.2
    validate_every: Annotated[int, Field(ge=1, description="epochs")] = 1
    workers: Annotated[int, Field(ge=0, description="processes that draw batches; 0 = none")] = 2
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _shares_are_positive(self) -> Self:
        if min(self.shares.values()) < 0 or sum(self.shares.values()) <= 0:
            raise ValueError("shares must not be negative, and not all zero")
        return self

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Validates plain data.

        Raises:
            ValueError: One line per problem, naming the key and the nearest valid key.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ValueError("\n".join(_explain(item) for item in error.errors())) from None


def _explain(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        fields = TrainConfig.model_fields
        return f"unknown key {key!r}{nearest(key, fields)}; allowed: {', '.join(fields)}"
    return f"{key or 'config'}: {item['msg']}"


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
