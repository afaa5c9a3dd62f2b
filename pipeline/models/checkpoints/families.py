"""EmbedderKind: what is known of a make of embedder before any weight is read. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from schemas.categories import Categories, Category
from schemas.records import Sample, Segmentation, Task

from .description import CategoryMap, Described

FAMILIES: dict[str, str] = {
    "clipseg": "pipeline.models.clipseg:ClipSeg",
    "embedder": "pipeline.models.embedder:EmbedderSegmenter",
    "eomt": "pipeline.models.eomt:EomtSegmenter",
    "grounding-dino": "pipeline.models.grounding_dino:GroundingDino",
    "mask2former": "pipeline.models.mask2former:Mask2FormerSegmenter",
    "maskrcnn": "pipeline.models.maskrcnn:MaskRcnn",
    "omdet-turbo": "pipeline.models.omdet_turbo:OmDetTurbo",
    "oneformer": "pipeline.models.oneformer:OneFormerSegmenter",
    "otsu": "pipeline.models.otsu:OtsuSegmenter",
    "owlv2": "pipeline.models.owlv2:Owlv2",
    "sam": "pipeline.models.sam:SamSegmenter",
    "sam3": "pipeline.models.sam3:Sam3",
    "semantic": "pipeline.models.semantic:SemanticSegmenter",
    "smp": "pipeline.models.smp:SmpSegmenter",
    "torchvision-semantic": "pipeline.models.torchvision_semantic:TorchvisionSemantic",
    "unet": "pipeline.models.unet:UNetSegmenter",
}
"""family → "module:class"; the class is built as `cls(info, options, tasks)`."""

WEIGHTLESS = frozenset({"otsu"})
"""Families whose checkpoint is a config.json alone."""

TAKES_VIEWS = frozenset(
    {
        "clipseg",
        "eomt",
        "mask2former",
        "maskrcnn",
        "oneformer",
        "semantic",
        "smp",
        "torchvision-semantic",
    }
)
"""Families that look at a picture several times where `model.tta` asks for it."""

BUNDLED: dict[str, str] = {
    "otsu": "otsu",
    "unet-nuclei": "unet-nuclei",
}
"""Short name → folder under pipeline/models/weights."""


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
    "dinov2": EmbedderKind("Dinov2Model", "", 0.0, 0.6),
    "dinov2_with_registers": EmbedderKind("Dinov2WithRegistersModel", "", 0.0, 0.6),
    "dinov3_vit": EmbedderKind("DINOv3ViTModel", "", 0.0, 0.6),
}
"""`model_type` of a config.json → its make; SigLIP 2 of a fixed input calls itself siglip, too."""


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


# Promptable models: what a checkpoint of one can be asked. No torch here.


@dataclass(frozen=True, slots=True)
class Promptable:
    """A family that finds what it is asked for, instead of categories of its own.

    Attributes:
        family: A key of `FAMILIES`.
        by_text: It reads words; else it takes points and boxes, or segments everything.
        boxes_only: It finds boxes; a SAM beside it makes the masks.
        names_masks: It compares the masks of a SAM before it with words and exemplars.
        tasks: What it can do; the first is the default.
    """

    family: str
    by_text: bool
    boxes_only: bool = False
    names_masks: bool = False
    tasks: tuple[Task, ...] = ("instance", "panoptic")


_SAM = Promptable("sam", by_text=False)
_SAM3 = Promptable("sam3", by_text=True)
_DINO = Promptable("grounding-dino", by_text=True, boxes_only=True)
PROMPTABLE: dict[str, Promptable] = {
    "sam": _SAM,
    "sam_hq": _SAM,
    "sam2": _SAM,
    "sam2_video": _SAM,
    "edgetam": _SAM,
    "edgetam_video": _SAM,
    "grounding-dino": _DINO,
    "mm-grounding-dino": _DINO,
    "omdet-turbo": Promptable("omdet-turbo", by_text=True, boxes_only=True),
    "owlv2": Promptable("owlv2", by_text=True, boxes_only=True),
    "clipseg": Promptable("clipseg", by_text=True, tasks=("semantic",)),
    "sam3": _SAM3,
    "sam3_video": _SAM3,
    **dict.fromkeys(EMBEDDERS, Promptable("embedder", by_text=True, names_masks=True)),
}
"""`model_type` of a config.json → what it is."""

OBJECT = Category(1, "object", isthing=True, color="#ffb000")
"""What everything-masks are: things without a name."""


def read_promptable(config: Mapping[str, Any]) -> Described | None:
    """The description of a promptable checkpoint; None for another one."""
    found = PROMPTABLE.get(str(config.get("model_type")))
    if found is None:
        return None
    return Described(found.family, found.tasks, CategoryMap("", Categories((OBJECT,)), ()))


def promptable(family: str) -> Promptable | None:
    """What a family is, if it is promptable."""
    return next((item for item in PROMPTABLE.values() if item.family == family), None)
