"""The sections that decide what a model sees and what becomes of its answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from .section import Section

Score = Annotated[float, Field(ge=0, le=1)]

SMALLEST_TILE = 32
"""Pixels; the stride of most nets."""


class TtaConfig(Section):
    """Test-time augmentation: the picture is looked at in several views, merged at the logits."""

    flips: Annotated[
        tuple[Literal["horizontal", "vertical"], ...],
        Field(description="mirrored views beside the plain one; both = also turned by 180°"),
    ] = ()
    scales: Annotated[
        tuple[Annotated[float, Field(ge=0.25, le=4)], ...],
        Field(min_length=1, description="sizes of the model's input, 1 = its usual one"),
    ] = (1.0,)

    @property
    def active(self) -> bool:
        """Whether there is more than the plain view."""
        return bool(self.flips) or self.scales != (1.0,)


class ModelConfig(Section):
    """Which model, how it is run, and its own thresholds."""

    name: Annotated[
        str, Field(min_length=1, description="short name, hub id, or checkpoint folder or file")
    ]
    revision: Annotated[
        str, Field(description="of a hub id: commit, tag or branch; '' = the pinned one")
    ] = ""
    categories: Annotated[
        str, Field(description="category table: a built-in name or a JSON file; '' = find it")
    ] = ""
    architecture: Annotated[
        dict[str, Any],
        Field(
            default_factory=dict,
            description="of a file of weights alone: {name = 'Unet', classes = 2, …}",
        ),
    ]
    allow_pickle: Annotated[
        bool, Field(description="load .bin/.pth weights, with weights_only=True")
    ] = False
    threshold: Annotated[
        Score | None, Field(description="score of a pixel or a query; the model's own if unset")
    ] = None
    mask_threshold: Annotated[
        Score | None, Field(description="probability of a mask's pixel; the model's own if unset")
    ] = None
    overlap_threshold: Annotated[
        Score | None,
        Field(description="panoptic: share of a mask that must stay visible; the model's own"),
    ] = None
    min_score: Annotated[float, Field(ge=0, le=1, description="segments below are dropped")] = 0.0
    min_area: Annotated[
        int | None, Field(ge=1, description="smaller segments are dropped, in pixels")
    ] = None
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        Field(
            description="of the forward pass; auto = bfloat16 where the device is faster at it, "
            "float16 for SAM"
        ),
    ] = "auto"
    compat: Annotated[
        Literal["", "transformers"],
        Field(
            description="'transformers' = semantic maps of OneFormer, MaskFormer and DETR in the "
            "order of its processors: probabilities are enlarged; '' = mask logits, as in the "
            "papers' code and in all other tasks"
        ),
    ] = ""
    tta: TtaConfig = TtaConfig()
    device: Annotated[
        str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:N")
    ] = "auto"
    batch_size: Annotated[int, Field(ge=1, description="pictures a forward pass at most")] = 8
    compile: Annotated[
        bool | Literal["auto"],
        Field(
            description="torch.compile, once for each input shape; auto = on a GPU, where what is "
            "left to do wins more time by it than compiling takes"
        ),
    ] = False


class TilingConfig(Section):
    """Large pictures in overlapping tiles; what lies across a seam comes out whole."""

    size: Annotated[
        int, Field(ge=0, description="side of a tile in pixels; 0 = the picture in one piece")
    ] = 0
    overlap: Annotated[
        int,
        Field(ge=0, description="pixels that neighbouring tiles share; below tiling.size"),
    ] = 128
    min_iou: Annotated[
        Score, Field(description="over the overlap, of pieces that are one object")
    ] = 0.5

    @field_validator("size")
    @classmethod
    def _reasonable(cls, value: int) -> int:
        if 0 < value < SMALLEST_TILE:
            raise ValueError(f"must be 0 or at least {SMALLEST_TILE}")
        return value

    @field_validator("overlap")
    @classmethod
    def _leaves_a_step(cls, value: int, info: ValidationInfo) -> int:
        size = info.data.get("size", 0)
        if 0 < size <= value:
            raise ValueError(f"must be in 0…{size - 1}, below tiling.size = {size}")
        return value


class CategoryRefine(Section):
    """Thresholds of one category; unset values are those of all."""

    min_score: Score | None = None
    min_area: Annotated[int | None, Field(ge=1)] = None
    max_segments: Annotated[int | None, Field(ge=0)] = None


class RefineConfig(Section):
    """What becomes of a model's segments before they are written.

    `model.min_score` and `model.min_area` hold for every category that sets none of its own.
    """

    max_segments: Annotated[
        int, Field(ge=0, description="best N segments a picture and category; 0 = all")
    ] = 0
    fill_holes: Annotated[
        int, Field(ge=0, description="holes of at most so many pixels are filled; 0 = none")
    ] = 0
    min_island: Annotated[
        int, Field(ge=0, description="pieces of a segment below so many pixels go; 0 = none")
    ] = 0
    categories: Annotated[
        dict[str, CategoryRefine], Field(description="category name → its own thresholds")
    ] = {}  # noqa: RUF012 (pydantic copies it)

    @field_validator("categories")
    @classmethod
    def _named(cls, value: dict[str, CategoryRefine]) -> dict[str, CategoryRefine]:
        if "" in value:
            raise ValueError("a category's name is empty")
        return value


# The section of naming: how masks without a name are compared with words and exemplars.

Text = Annotated[str, Field(min_length=1, max_length=500)]


class NamingConfig(Section):
    """SAM+CLIP and the like: masks of everything get the categories that they look like."""

    views: Annotated[
        tuple[Literal["keep", "grey", "blur"], ...],
        Field(
            min_length=1,
            description="what lies around the mask in its crop; the mean of several is taken",
        ),
    ] = ("keep", "grey")
    margin: Annotated[
        float, Field(ge=0, le=2, description="around a mask's box, in longer sides of it")
    ] = 0.1
    template: Annotated[str, Field(description="what is read of a prompt, which goes to {}")] = "{}"
    rivals: Annotated[
        tuple[Text, ...],
        Field(description="CLIP: texts that every category has to beat, for masks of nothing"),
    ] = ("object", "things", "stuff", "texture")
    similarity: Annotated[
        float | None,
        Field(ge=-1, le=1, description="cosine to an exemplar at least; unset = the model's own"),
    ] = None
    keep_unnamed: Annotated[
        bool, Field(description="masks that look like nothing asked become 'object'")
    ] = False
    crops_per_batch: Annotated[int, Field(ge=1, description="on a GPU")] = 64

    @field_validator("template")
    @classmethod
    def _has_a_place(cls, value: str) -> str:
        if value.count("{}") != 1:
            raise ValueError("must hold {} once, where the prompt goes")
        return value
