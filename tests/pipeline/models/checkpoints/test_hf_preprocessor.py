"""What preprocessor files of embedders say, old forms too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

from pipeline.models.checkpoints.hf_preprocessor import (
    KIND_OF,
    preprocessor,
    read_embedder_input,
    read_fit_rule,
)


def read(tmp_path: Path, **settings: Any) -> Any:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    return read_embedder_input(str(tmp_path))


def test_the_first_clip_wrote_plain_numbers(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        feature_extractor_type="CLIPFeatureExtractor",
        size=224,
        crop_size=224,
        do_center_crop=True,
        resample=3,
        image_mean=[0.1, 0.2, 0.3],
        image_std=[0.4, 0.5, 0.6],
    )
    assert (found.side, found.resample, found.mean) == (224, "bicubic", (0.1, 0.2, 0.3))


@pytest.mark.parametrize(
    ("settings", "side"),
    [
        ({"image_processor_type": "SiglipImageProcessor"}, 224),
        (
            {"image_processor_type": "SiglipImageProcessor", "size": {"height": 384, "width": 384}},
            384,
        ),
        (
            {
                "image_processor_type": "BitImageProcessor",
                "size": {"shortest_edge": 256},
                "crop_size": {"height": 224, "width": 224},
            },
            224,
        ),
        ({"image_processor_type": "DINOv3ViTImageProcessorFast"}, 224),
        ({"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 336}}, 336),
    ],
)
def test_the_side_is_that_of_the_cut_or_of_the_whole(
    tmp_path: Path, settings: dict[str, Any], side: int
) -> None:
    assert read(tmp_path, **settings).side == side


def test_an_oblong_input_is_refused(tmp_path: Path) -> None:
    size = {"height": 100, "width": 200}
    with pytest.raises(ValueError, match="is a square, not 200 × 100"):
        read(tmp_path, image_processor_type="SiglipImageProcessor", size=size)


@pytest.mark.parametrize("model_type", sorted(KIND_OF))
def test_a_file_without_a_type_is_of_transformers_own_choice(
    tmp_path: Path, model_type: str
) -> None:
    mapping: Any = IMAGE_PROCESSOR_MAPPING_NAMES
    if model_type not in mapping:  # transformers loads the file only if it names its type
        assert model_type in ("dinov2_with_registers", "edgetam_video", "videomt")
        return
    theirs = mapping[model_type]["torchvision"]
    assert theirs.removesuffix("ImageProcessor").lower() == KIND_OF[model_type]
    (tmp_path / "preprocessor_config.json").write_text('{"resample": 2}')
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    named = {"image_processor_type": theirs, "resample": 2}
    assert read_fit_rule(preprocessor(tmp_path)) == read_fit_rule(named)
