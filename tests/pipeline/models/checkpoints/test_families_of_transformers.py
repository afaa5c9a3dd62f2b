"""Every network that transformers' own tables call a segmenter has a family here, or a reason."""

from __future__ import annotations

import pytest
from transformers.models.auto import modeling_auto

from pipeline.models.checkpoints.families import FAMILIES, family_of

TABLES = {
    "semantic": ("semantic", "detr"),
    "instance": ("mask2former", "rf-detr"),
    "universal": ("detr", "eomt", "mask2former", "oneformer", "videomt"),
    "image": ("detr",),
    "mask generation": ("sam", "sam3"),
    "zero-shot detection": ("grounding-dino", "omdet-turbo", "owlv2"),
}
NAMES = {
    "semantic": "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES",
    "instance": "MODEL_FOR_INSTANCE_SEGMENTATION_MAPPING_NAMES",
    "universal": "MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES",
    "image": "MODEL_FOR_IMAGE_SEGMENTATION_MAPPING_NAMES",
    "mask generation": "MODEL_FOR_MASK_GENERATION_MAPPING_NAMES",
    "zero-shot detection": "MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES",
}


@pytest.mark.parametrize("table", NAMES)
def test_every_key_has_a_family(table: str) -> None:
    """A new key upstream fails here: give it a family, or say here why not."""
    mapping = getattr(modeling_auto, NAMES[table])
    assert mapping
    for model_type, network in mapping.items():
        family = family_of(model_type)
        assert family in TABLES[table], (model_type, network)
        heads = FAMILIES[family].heads
        assert not heads or network.endswith(heads), (network, heads)


def test_no_model_type_has_two_families() -> None:
    every = [kind for row in FAMILIES.values() for kind in row.model_types]
    assert len(every) == len(set(every))
