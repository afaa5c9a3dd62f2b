"""How the embedded model is trained: one TOML file, every key also `--set key=value`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from .config import Section


class TrainConfig(Section):
    """How a `unet` is trained. Equal values and data give the same batches in the same order."""

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
