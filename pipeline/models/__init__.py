"""Model families: one file each behind `Segmenter`, found through two lazy tables.

Nothing here imports torch: the driver describes a model from its files alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schemas.records import Sample, Segmentation

FAMILIES: dict[str, str] = {
    "clipseg": "pipeline.models.clipseg:ClipSeg",
    "embedder": "pipeline.models.named_masks:NamedMasks",
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
