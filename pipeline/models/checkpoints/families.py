"""The one table of families: class, checkpoints, tasks, prompts, thresholds. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal, Protocol

from schemas.categories import Category
from schemas.config.model import ModelConfig
from schemas.records import TASKS, Sample, Segmentation, Task


class Segmenter(Protocol):
    """A model that turns pictures into segments. Built and used inside one worker process."""

    def load(self, device: str) -> None:
        """Puts the weights on `device` ("cpu", "cuda", "cuda:1"); called once."""
        ...

    def segment(self, batch: Sequence[Sample]) -> list[Segmentation]:
        """Labels pictures of any sizes.

        Returns:
            One `Segmentation` a sample, in the same order, masks in `sample.original_hw` pixels,
            with the segments of all tasks; where there are several, each names its own.
            The result of a sample never depends on its neighbours in the batch.
        """
        ...

    def close(self) -> None:
        """Frees what `load` took."""
        ...


@dataclass(frozen=True, slots=True)
class Thresholds:
    """A family's own values, for what the job leaves unset.

    Attributes:
        score: Least score of a query, a detection, or an answer to a phrase (`model.threshold`).
        mask: Least probability of a mask's pixel (`model.mask_threshold`).
        overlap: Panoptic: share of a query's mask that must stay visible
            (`model.overlap_threshold`).
    """

    score: float = 0.5
    mask: float = 0.5
    overlap: float = 0.8

    def under(self, options: ModelConfig) -> Thresholds:
        """The job's values where it gives some."""
        return Thresholds(
            score=self.score if options.threshold is None else options.threshold,
            mask=self.mask if options.mask_threshold is None else options.mask_threshold,
            overlap=self.overlap
            if options.overlap_threshold is None
            else options.overlap_threshold,
        )


@dataclass(frozen=True, slots=True)
class Promptable:
    """What a family that finds what it is asked for, instead of categories of its own, takes.

    Without any of these it takes points and boxes, or segments everything.

    Attributes:
        by_text: It reads words.
        boxes_only: It finds boxes; a SAM beside it makes the masks.
        names_masks: It compares the masks of a SAM before it with words and exemplars.
        by_mask: It is shown pictures in which the objects are marked, and nothing else.
    """

    by_text: bool
    boxes_only: bool = False
    names_masks: bool = False
    by_mask: bool = False

    @property
    def is_sam(self) -> bool:
        """It takes points and boxes."""
        return not self.by_text and not self.by_mask


@dataclass(frozen=True, slots=True)
class Family:
    """A row of the table.

    Attributes:
        segmenter: "module:class", built as `cls(info, options, tasks)`; imported by a worker alone.
        tasks: What it can do, the first by default; of a family with categories of its own, what a
            checkpoint can do at most.
        model_types: `model_type` of a config.json of transformers that it loads.
        heads: How the architectures end that it loads; empty = any.
        views: It looks at a picture several times where `model.tta` asks for it.
        prompts: What it can be asked; None = it has categories of its own.
        weightless: Its checkpoint is a config.json alone.
        bundled: Short names of checkpoints that ship with the program, each a folder under
            pipeline/models/weights.
        thresholds: Its own, for what a job leaves unset. `otsu` and `unet` read theirs off the
            checkpoint, `embedder` off `EMBEDDERS`, `sam` off [everything].
    """

    segmenter: str
    tasks: tuple[Task, ...] = TASKS
    model_types: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    views: bool = False
    prompts: Promptable | None = None
    weightless: bool = False
    bundled: tuple[str, ...] = ()
    thresholds: Thresholds = field(default=Thresholds())


@dataclass(frozen=True, slots=True)
class EmbedderKind:
    """A make of networks that turn a picture, or a text, into a vector.

    Attributes:
        network: Class of transformers.
        scores: How cosines to texts become scores: "softmax", shares among all texts (CLIP);
            "sigmoid", each for itself (SigLIP); "" = it reads no text.
        threshold: Score of a text at least, where the job says nothing.
        similarity: Cosine to an exemplar at least, where the job says nothing.
    """

    network: str
    scores: Literal["softmax", "sigmoid", ""]
    threshold: float
    similarity: float


EMBEDDERS: dict[str, EmbedderKind] = {
    "clip": EmbedderKind("CLIPModel", "softmax", 0.5, 0.8),
    "siglip": EmbedderKind("SiglipModel", "sigmoid", 0.1, 0.8),
    "siglip2": EmbedderKind("Siglip2Model", "sigmoid", 0.1, 0.8),
    "dinov2": EmbedderKind("Dinov2Model", "", 0.0, 0.6),
    "dinov2_with_registers": EmbedderKind("Dinov2WithRegistersModel", "", 0.0, 0.6),
    "dinov3_vit": EmbedderKind("DINOv3ViTModel", "", 0.0, 0.6),
}
"""`model_type` of a config.json → its make; SigLIP 2 of a fixed input calls itself siglip, too,
and siglip2 is NaFlex."""


def embedder_kind(config: Mapping[str, Any]) -> EmbedderKind:
    """The make of a checkpoint.

    Raises:
        ValueError: It is no embedder.
    """
    found = EMBEDDERS.get(str(config.get("model_type")))
    if found is None:
        raise ValueError(
            f"model_type {config.get('model_type')!r} embeds nothing that is known here; known: "
            f"{', '.join(EMBEDDERS)}"
        )
    return found


_THINGS: tuple[Task, ...] = ("instance", "panoptic")
_BOXES_BY_TEXT = Promptable(by_text=True, boxes_only=True)

FAMILIES: dict[str, Family] = {
    "clipseg": Family(
        "pipeline.models.clipseg:ClipSeg",
        tasks=("semantic",),
        model_types=("clipseg",),
        views=True,
        prompts=Promptable(by_text=True),
    ),
    "detr": Family(
        "pipeline.models.detr:DetrSegmenter",
        model_types=("detr",),
        heads=("DetrForSegmentation",),
        views=True,
    ),
    "embedder": Family(
        "pipeline.models.embedder:EmbedderSegmenter",
        tasks=_THINGS,
        model_types=tuple(EMBEDDERS),
        prompts=Promptable(by_text=True, names_masks=True),
    ),
    "eomt": Family(
        "pipeline.models.eomt:EomtSegmenter",
        model_types=("eomt", "eomt_dinov3"),
        heads=("ForUniversalSegmentation",),
        views=True,
        thresholds=Thresholds(score=0.8),
    ),
    "grounding-dino": Family(
        "pipeline.models.grounding_dino:GroundingDino",
        tasks=_THINGS,
        model_types=("grounding-dino", "mm-grounding-dino"),
        prompts=_BOXES_BY_TEXT,
        thresholds=Thresholds(score=0.3),
    ),
    "mask2former": Family(
        "pipeline.models.mask2former:Mask2FormerSegmenter",
        model_types=("mask2former", "maskformer"),
        heads=("Mask2FormerForUniversalSegmentation", "MaskFormerForInstanceSegmentation"),
        views=True,
    ),
    "maskrcnn": Family(
        "pipeline.models.maskrcnn:MaskRcnn",
        tasks=("instance",),
        views=True,
    ),
    "omdet-turbo": Family(
        "pipeline.models.omdet_turbo:OmDetTurbo",
        tasks=_THINGS,
        model_types=("omdet-turbo",),
        prompts=_BOXES_BY_TEXT,
        thresholds=Thresholds(score=0.3),
    ),
    "oneformer": Family(
        "pipeline.models.oneformer:OneFormerSegmenter",
        model_types=("oneformer",),
        heads=("ForUniversalSegmentation",),
        views=True,
    ),
    "onnx": Family(
        "pipeline.models.onnx:OnnxSegmenter",
        tasks=("semantic", "instance"),
    ),
    "otsu": Family(
        "pipeline.models.otsu:OtsuSegmenter",
        weightless=True,
        bundled=("otsu",),
    ),
    "owlv2": Family(
        "pipeline.models.owlv2:Owlv2",
        tasks=_THINGS,
        model_types=("owlv2", "owlvit"),
        prompts=_BOXES_BY_TEXT,
        thresholds=Thresholds(score=0.1),  # its scores are low; transformers has the same
    ),
    "rf-detr": Family(
        "pipeline.models.rf_detr:RfDetrSegmenter",
        tasks=("instance",),
        model_types=("rf_detr",),
        heads=("RfDetrForInstanceSegmentation",),
    ),
    "sam": Family(
        "pipeline.models.sam:SamSegmenter",
        tasks=_THINGS,
        model_types=(
            *("sam", "sam_hq", "sam2", "sam2_video", "edgetam", "edgetam_video", "sam3_tracker"),
        ),
        prompts=Promptable(by_text=False),
    ),
    "sam3": Family(
        "pipeline.models.sam3:Sam3",
        tasks=_THINGS,
        model_types=("sam3", "sam3_lite_text", "sam3_video"),
        prompts=Promptable(by_text=True),
        thresholds=Thresholds(score=0.3),
    ),
    "seggpt": Family(
        "pipeline.models.seggpt:SegGpt",
        tasks=("semantic",),
        model_types=("seggpt",),
        prompts=Promptable(by_text=False, by_mask=True),
    ),
    "semantic": Family(
        "pipeline.models.semantic:SemanticSegmenter",
        tasks=("semantic",),
        model_types=(
            *("beit", "data2vec-vision", "dpt", "mobilenet_v2", "mobilevit", "mobilevitv2"),
            *("sapiens2", "segformer", "tipsv2_dpt", "upernet"),
        ),
        heads=("ForSemanticSegmentation",),
        views=True,
    ),
    "smp": Family(
        "pipeline.models.smp:SmpSegmenter",
        tasks=("semantic",),
        views=True,
    ),
    "torchvision-semantic": Family(
        "pipeline.models.torchvision_semantic:TorchvisionSemantic",
        tasks=("semantic",),
        views=True,
    ),
    "unet": Family(
        "pipeline.models.unet:UNetSegmenter",
        bundled=("unet-nuclei",),
    ),
    "videomt": Family(
        "pipeline.models.videomt:VideomtSegmenter",
        model_types=("videomt",),
        heads=("ForUniversalSegmentation",),
        views=True,
    ),
}
"""family → what is known of it. A new one is a file, its entry here, a row in tests/contract."""

BUNDLED = frozenset(name for family in FAMILIES.values() for name in family.bundled)
"""Short names of the models that ship with the program."""

OBJECT = Category(1, "object", isthing=True, color="#ffb000")
"""What everything-masks are: things without a name."""


def segmenter_class(family: str) -> Any:
    """Imports the class of a family; it is built as `cls(info, options, tasks)`."""
    module, _, name = FAMILIES[family].segmenter.partition(":")
    return getattr(import_module(module), name)


def family_of(model_type: object) -> str | None:
    """The family that loads checkpoints of a `model_type` of transformers, if there is one."""
    return next((name for name, row in FAMILIES.items() if model_type in row.model_types), None)


def promptable(family: str) -> Promptable | None:
    """What a family can be asked, if it is promptable."""
    row = FAMILIES.get(family)
    return row.prompts if row else None
