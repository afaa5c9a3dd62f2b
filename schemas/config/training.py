"""How a semantic model is trained: one TOML file, every key also `--set key=value`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from .augment import AugmentConfig
from .augment_steps import MIXING
from .section import Section

# How the embedded model is trained: one TOML file, every key also `--set key=value`.


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


Architecture = Literal["unet", "fcn", "deeplabv3", "segformer"]
Balance = Literal["none", "inverse-frequency", "median-frequency"]

SEGFORMERS = ("b0", "b1", "b2", "b3", "b4", "b5")
TORCHVISION_ENCODERS = {
    "fcn": ("resnet50", "resnet101"),
    "deeplabv3": ("resnet50", "resnet101", "mobilenet_v3_large"),
}
"""Architecture → encoders that torchvision builds it with; the first is the default."""

METRICS = ("mean_iou", "pixel_accuracy", "mean_accuracy", "foreground_iou")
"""What the best epoch is chosen by; also "iou:NAME" of one category."""


class NetConfig(Section):
    """The network, where it is built anew; with `--init` the checkpoint says it."""

    encoder: Annotated[
        str,
        Field(
            description="unet: any encoder of segmentation-models-pytorch, vgg13_bn is the U-Net "
            "paper's own path; fcn: resnet50, resnet101; deeplabv3: these or mobilenet_v3_large; "
            "segformer: b0 to b5; empty = resnet34, resnet50, resnet50, b0"
        ),
    ] = ""
    depth: Annotated[int, Field(ge=3, le=5, description="of a unet: times it halves")] = 5
    widths: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Field(description="of a unet's decoder, coarse to fine, one a halving"),
    ] = ()
    dropout: Annotated[float, Field(ge=0, lt=1, description="of a segformer's head")] = 0.1


class SemanticTrainConfig(Section):
    """How a network learns categories of pixels. Equal values and data give equal batches."""

    epochs: Annotated[int, Field(ge=1)] = 50
    steps: Annotated[
        int, Field(ge=0, description="optimiser steps an epoch; 0 = each picture about once")
    ] = 0
    batch_size: Annotated[int, Field(ge=1, description="crops a step, of all workers")] = 8
    crop: Annotated[int, Field(ge=32, multiple_of=32, description="side of a crop, pixels")] = 256
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Annotated[int, Field(ge=0, description="steps of linear warm-up")] = 100
    schedule: Literal["cosine", "constant"] = "cosine"
    clip: Annotated[float, Field(gt=0, description="largest norm of a step's gradient")] = 1.0
    ema: Annotated[
        float, Field(ge=0, lt=1, description="decay of the averaged weights; 0 = none")
    ] = 0.998
    precision: Annotated[
        Literal["auto", "fp32", "bf16"], Field(description="auto = bf16 on a GPU")
    ] = "auto"

    loss: Literal["cross-entropy", "cross-entropy+dice"] = "cross-entropy"
    category_weights: Annotated[
        Balance | dict[str, Annotated[float, Field(ge=0)]],
        Field(description="none, inverse-frequency, median-frequency, or name → weight"),
    ] = "none"
    max_weight: Annotated[
        float, Field(gt=0, description="of a weight that follows from frequencies")
    ] = 10.0

    net: NetConfig = NetConfig()
    augment: Annotated[
        AugmentConfig, Field(description="its steps are drawn anew for each crop")
    ] = AugmentConfig()
    augmented: Annotated[
        float, Field(ge=0, le=1, description="share of the crops that the steps change")
    ] = 1.0

    categories: Annotated[
        str,
        Field(description="of folders of maps: a table's name, as camvid-11, or a JSON file"),
    ] = ""
    void: Annotated[
        tuple[int, ...] | None,
        Field(description="values of folders of maps that mean unlabelled; usually 0 and 255"),
    ] = None
    pixel_offset: Annotated[
        int, Field(description="of folders of maps: category id minus pixel value")
    ] = 0
    rest: Annotated[
        Literal["auto", "ignore", "background"],
        Field(description="pixels without a segment; auto = background where there are objects"),
    ] = "auto"
    min_score: Annotated[
        float, Field(ge=0, le=1, description="segments below it are ignored, not learned")
    ] = 0.0
    shares: Annotated[
        tuple[Annotated[float, Field(ge=0)], ...],
        Field(description="of the crops, one a --dataset; empty = by pictures"),
    ] = ()
    val: Annotated[
        float,
        Field(gt=0, lt=1, description="share of pictures to validate on, where nothing says which"),
    ] = 0.1

    best_by: Annotated[
        str, Field(pattern=r"^(mean_iou|pixel_accuracy|mean_accuracy|foreground_iou|iou:.+)$")
    ] = "mean_iou"
    patience: Annotated[
        int, Field(ge=0, description="validations without a better one before it stops; 0 = never")
    ] = 0
    validate_every: Annotated[int, Field(ge=1, description="epochs")] = 1

    workers: Annotated[int, Field(ge=1, description="GPUs, or CPU processes, that learn")] = 1
    loaders: Annotated[
        int, Field(ge=0, description="processes a worker that draw batches; 0 = none")
    ] = 2
    cache_mb: Annotated[int, Field(ge=0, description="decoded pictures that a process keeps")] = (
        1024
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @field_validator("best_by", mode="before")
    @classmethod
    def _a_metric(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in METRICS and not value.startswith("iou:"):
            raise ValueError(f"must be one of {', '.join(METRICS)}, or iou:NAME of a category")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.shares and sum(self.shares) <= 0:
            raise ValueError("shares must not all be zero")
        if self.batch_size % self.workers:
            raise ValueError(
                f"batch_size must be a multiple of workers, got {self.batch_size} "
                f"and {self.workers}"
            )
        for step in self.augment.steps:
            if step.step in (*MIXING, "object_crop"):
                raise ValueError(
                    f"augment.steps: {step.step} wants objects, or other pictures: jobs.label "
                    "makes such copies, training changes one picture at a time"
                )
        if self.net.widths and len(self.net.widths) != self.net.depth:
            raise ValueError(
                f"net.widths must name one width a halving: net.depth is {self.net.depth}, "
                f"got {len(self.net.widths)}"
            )
        return self

    def encoder_of(self, architecture: Architecture) -> str:
        """The encoder of a network that is built anew.

        Raises:
            ValueError: `net.encoder` is none of this architecture's.
        """
        if architecture == "unet":
            return self.net.encoder or "resnet34"
        known = SEGFORMERS if architecture == "segformer" else TORCHVISION_ENCODERS[architecture]
        encoder = self.net.encoder or known[0]
        if encoder not in known:
            raise ValueError(
                f"net.encoder: {architecture} takes {', '.join(known)}, got {encoder!r}"
            )
        return encoder
