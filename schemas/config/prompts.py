"""The sections of zero-shot labelling: what to look for, and how a grid of points is judged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from schemas.prompts import ExemplarText

from .section import Section

Score = Annotated[float, Field(ge=0, le=1)]


class PromptsConfig(Section):
    """What a promptable model is asked. With nothing set, SAM segments everything."""

    text: Annotated[tuple[str, ...], Field(description="--prompt: one category each")] = ()
    ontology: Annotated[str, Field(description="TOML file: prompts of each category")] = ""
    file: Annotated[
        str, Field(description="--prompts: points or boxes; CSV, JSON, COCO, YOLO, our dataset")
    ] = ""
    format: Literal["auto", "csv", "json", "coco", "yolo", "dataset"] = "auto"
    on_size_mismatch: Annotated[
        Literal["fail", "scale", "turn"],
        Field(
            description="where a file states another size than the upright picture has: fail it, "
            "scale the prompts, or take them as pixels of the unturned file"
        ),
    ] = "fail"
    min_matched: Annotated[
        float,
        Field(ge=0, le=1, description="share of the pictures named in the file that must be there"),
    ] = 0.5
    stand_in: Annotated[
        Literal["none", "box"],
        Field(description="what stands for a prompt without a mask: nothing, or its box or point"),
    ] = "none"
    exemplars: Annotated[
        tuple[str, ...],
        Field(description="--exemplar: IMAGE:x,y,w,h=CATEGORY each; SegGPT: IMAGE:@MASK=CATEGORY"),
    ] = ()
    single_mask: Annotated[
        bool,
        Field(description="boxes: SAM's one mask for them, not the best of all that it makes"),
    ] = False
    text_threshold: Annotated[
        Score | None, Field(description="of a phrase's tokens; the model's own if unset")
    ] = None
    chunk_tokens: Annotated[
        int, Field(ge=0, description="text tokens a pass at most; 0 = the model's limit")
    ] = 0

    @field_validator("exemplars")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            ExemplarText.parse(text)
        return value


class EverythingConfig(Section):
    """SAM "everything": the settings and defaults of SamAutomaticMaskGenerator."""

    points_per_side: Annotated[int, Field(ge=1, le=256)] = 32
    points_per_batch: Annotated[int, Field(ge=1, description="fast mode takes many times more")] = (
        64
    )
    pred_iou_thresh: Annotated[float, Field(ge=-1, le=1)] = 0.88
    stability_score_thresh: Annotated[float, Field(ge=-1, le=1)] = 0.95
    stability_score_offset: Annotated[float, Field(ge=0)] = 1.0
    box_nms_thresh: Score = 0.7
    crop_n_layers: Annotated[int, Field(ge=0, le=4)] = 0
    crop_nms_thresh: Score = 0.7
    crop_overlap_ratio: Score = 512 / 1500
    crop_n_points_downscale_factor: Annotated[int, Field(ge=1)] = 1
    min_mask_region_area: Annotated[int, Field(ge=0)] = 0
    reference: Annotated[
        bool, Field(description="plain float32 in the package's own order: the oracle, slow")
    ] = False


class ConflictsConfig(Section):
    """Overlapping masks of promptable models, resolved in mask space."""

    nms_iou: Annotated[Score, Field(description="of two masks, the weaker goes; 1 = off")] = 0.8
    nms_ios: Annotated[
        Score, Field(description="intersection over the smaller mask, likewise; 1 = off")
    ] = 0.9
    across_categories: Annotated[bool, Field(description="also between categories")] = False
    priority: Annotated[
        Literal["score", "order"], Field(description="who stays: the surer, or the first category")
    ] = "score"
    non_overlap: Annotated[
        bool, Field(description="every pixel to one mask, so that panoptic export is possible")
    ] = False
