"""EmbedderKind: what is known of a make of embedder before any weight is read. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


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
