"""Tiny random checkpoints of the text-prompted families, in the hub's on-disk format.

With real tokenizer files, and a SAM beside them. The networks are random but not mute: scores
spread over 0…1, masks have edges.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from tiny_checkpoints import clip_tokenizer
from tiny_sam import tiny_sam

from pipeline.models.checkpoints.info import ModelInfo, describe
from pipeline.prompts.request import Request
from schemas.config.prompts import ConflictsConfig, PromptsConfig
from schemas.prompts import Ontology
from schemas.records import ImageRecord, Sample

EDGES = {"shortest_edge": 64, "longest_edge": 128}
SQUARE = {"height": 64, "width": 64}
_SWIN: dict[str, Any] = {
    "image_size": 64,
    "embed_dim": 16,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 2, 4, 8],
    "window_size": 4,
    "out_features": ["stage2", "stage3", "stage4"],
}


@cache
def _root() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="maskmill-text-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def text_checkpoint(name: str) -> Path:
    """Folder of a tiny checkpoint, a key of `BUILDERS`."""
    folder = _root() / name
    folder.mkdir()
    torch.manual_seed(3)
    BUILDERS[name](folder)
    return folder


def text_info(
    name: str,
    ontology: Ontology | None,
    *,
    partner: str | None = "sam",
    conflicts: ConflictsConfig | None = None,
    **prompts: Any,
) -> ModelInfo:
    """A description of a tiny checkpoint, as the driver makes it."""
    info = replace(describe(str(text_checkpoint(name))), name=f"tiny-{name}")
    if ontology is None:
        return info
    return replace(
        info,
        categories=ontology.categories(),
        partner=None if partner is None else text_info(partner, None),
        asking=Request(
            prompts=PromptsConfig(**prompts),
            conflicts=conflicts or ConflictsConfig(),
            ontology=ontology,
        ),
    )


def picture(hw: tuple[int, int], seed: int = 0) -> Sample:
    """Coloured blocks and noise."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 80, (*hw, 3), np.uint8)
    for _ in range(4):
        y, x = (int(rng.integers(0, max(side - 8, 1))) for side in hw)
        pixels[y : y + hw[0] // 3, x : x + hw[1] // 3] += rng.integers(0, 170, 3, np.uint8)
    return Sample(ImageRecord(f"{seed}", ""), pixels, hw)


def bert_tokenizer() -> hf.BertTokenizer:
    """Letters and a few words; the delimiters have BERT's own ids."""
    words = [f"[unused{index}]" for index in range(1100)]
    fixed = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    fixed |= {1012: ".", 1029: "?"}
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    fixed |= {200 + i: letter for i, letter in enumerate(letters)}
    fixed |= {300 + i: f"##{letter}" for i, letter in enumerate(letters)}
    fixed |= {400 + i: word for i, word in enumerate(("cat", "dog", "person", "car", "red"))}
    for index, word in fixed.items():
        words[index] = word
    vocabulary = {word: index for index, word in enumerate(words)}
    return hf.BertTokenizer(vocab=vocabulary, model_max_length=256)


def _grounding_dino(kind: str) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        tokenizer = bert_tokenizer()
        config = getattr(hf, f"{kind}Config")(
            backbone_config=hf.SwinConfig(**_SWIN),
            text_config=hf.BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=256,
            ),
            d_model=32,
            encoder_layers=1,
            decoder_layers=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            num_queries=20,
            disable_custom_kernels=True,
        )
        model = getattr(hf, f"{kind}ForObjectDetection")(config)
        with torch.no_grad():  # boxes of all places and sizes
            for name, value in model.named_parameters():
                if "bbox_embed" in name and name.endswith("weight"):
                    torch.nn.init.normal_(value, std=0.3)
                elif "word_embeddings" in name:
                    torch.nn.init.normal_(value)
        images = hf.GroundingDinoImageProcessor(size=EDGES)
        model.save_pretrained(folder)
        hf.GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)

    return build


def _omdet_turbo(folder: Path) -> None:
    tokenizer = clip_tokenizer(77)
    text = 48  # of classes and tasks alike; transformers wants another size in the decoder
    config = hf.OmDetTurboConfig(
        backbone_config=hf.SwinConfig(**_SWIN),
        text_config=hf.CLIPTextConfig(
            hidden_size=text,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            vocab_size=len(tokenizer),
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        text_projection_in_dim=text,
        text_projection_out_dim=text,
        class_embed_dim=text,
        task_encoder_hidden_dim=32,
        encoder_hidden_dim=32,
        decoder_hidden_dim=32,
        encoder_attention_heads=4,
        decoder_num_heads=4,
        decoder_num_layers=2,
        num_queries=20,
        vision_features_channels=(32, 32, 32),
        encoder_in_channels=(32, 64, 128),
        encoder_dim_feedforward=32,
        decoder_dim_feedforward=32,
        image_size=64,
        disable_custom_kernels=True,
        apply_layernorm_after_vision_backbone=False,
    )
    model = hf.OmDetTurboForObjectDetection(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "bbox_head" in name and name.endswith("weight"):
                torch.nn.init.normal_(value, std=0.2)
            elif "token_embedding" in name:
                torch.nn.init.normal_(value)
    model.save_pretrained(folder)
    images = hf.DetrImageProcessor(size=SQUARE, do_pad=False)
    hf.OmDetTurboProcessor(images, tokenizer).save_pretrained(folder)


def _owl(kind: str) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        tokenizer = clip_tokenizer(16)
        config = getattr(hf, f"{kind}Config")(
            text_config={
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "vocab_size": len(tokenizer),
                "max_position_embeddings": 16,
            },
            vision_config={
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 64,
                "patch_size": 8,
            },
            projection_dim=32,
        )
        model = getattr(hf, f"{kind}ForObjectDetection")(config)
        with torch.no_grad():
            torch.nn.init.normal_(model.box_head.dense2.weight, std=0.15)
            torch.nn.init.normal_(model.class_head.logit_scale.weight, std=0.3)
            for name, value in model.named_parameters():
                if "token_embedding" in name or "text_projection" in name:
                    torch.nn.init.normal_(value)
        model.save_pretrained(folder)
        images = getattr(hf, f"{kind}ImageProcessor")(size=SQUARE)
        getattr(hf, f"{kind}Processor")(images, tokenizer).save_pretrained(folder)

    return build


def _seggpt(folder: Path) -> None:
    """It reads no text, but is asked by the job as these are."""
    config = hf.SegGptConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=(128, 64),
        patch_size=16,
        pretrain_image_size=32,
        decoder_hidden_size=16,
        merge_index=1,
        intermediate_hidden_state_indices=(1, 2, 3),
    )
    model = hf.SegGptForImageSegmentation(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1 and "layernorm" not in name:
                torch.nn.init.normal_(value, std=0.3 if "head" in name else 0.15)
    model.save_pretrained(folder)
    hf.SegGptImageProcessor(size=SQUARE).save_pretrained(folder)


def _clipseg(folder: Path) -> None:
    tokenizer = clip_tokenizer(24)
    vision = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 16,
    }
    text = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 24,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    config = hf.CLIPSegConfig(
        text_config=text,
        vision_config=vision,
        projection_dim=16,
        extract_layers=[0, 1, 2],
        reduce_dim=16,
        decoder_intermediate_size=16,
        decoder_num_attention_heads=2,
    )
    model = hf.CLIPSegForImageSegmentation(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "token_embedding" in name or "film" in name or "patch_embedding" in name:
                torch.nn.init.normal_(value)
            elif "transposed_convolution" in name and name.endswith("weight"):
                torch.nn.init.normal_(value, std=0.5)
    model.save_pretrained(folder)
    images = hf.ViTImageProcessor(size=SQUARE, image_mean=[0.4, 0.5, 0.6])
    hf.CLIPSegProcessor(images, tokenizer).save_pretrained(folder)


def _sam(folder: Path) -> None:
    tiny_sam("sam").save_pretrained(folder)
    hf.SamImageProcessor(
        size={"longest_edge": 64},
        pad_size=SQUARE,
        mask_size={"longest_edge": 32},
        mask_pad_size={"height": 32, "width": 32},
    ).save_pretrained(folder)


def _sam3(folder: Path) -> None:
    tokenizer = clip_tokenizer(32)
    text = {
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 32,
        "projection_dim": 32,
        "eos_token_id": tokenizer.eos_token_id,
    }
    _save_sam3(folder, hf.Sam3Model(hf.Sam3Config(**_sam3_parts(), text_config=text)), tokenizer)


def _sam3_lite_text(folder: Path) -> None:
    tokenizer = clip_tokenizer(32)
    text = {
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 32,
        "projection_dim": 32,
    }
    config = hf.Sam3LiteTextConfig(**_sam3_parts(), text_config=text)
    _save_sam3(folder, hf.Sam3LiteTextModel(config), tokenizer)


def sam3_vision() -> dict[str, Any]:
    """The picture's encoder, which the concept finder and the tracker share."""
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 112,
        "patch_size": 14,
        "window_size": 4,
        "global_attn_indexes": [1],
        "pretrain_image_size": 56,
    }
    return {
        "backbone_config": backbone,
        "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    }


def _sam3_parts() -> dict[str, Any]:
    small = {"hidden_size": 32, "num_attention_heads": 2}
    layer = {**small, "num_layers": 1, "intermediate_size": 32}
    return {
        "vision_config": sam3_vision(),
        "geometry_encoder_config": layer,
        "detr_encoder_config": layer,
        "detr_decoder_config": {**layer, "num_queries": 6},
        "mask_decoder_config": small,
    }


def _save_sam3(folder: Path, model: Any, tokenizer: Any) -> None:
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1 and "norm" not in name:
                torch.nn.init.normal_(value, std=0.25)
    model.save_pretrained(folder)
    images = hf.Sam3ImageProcessor(
        size={"height": 112, "width": 112}, mask_size={"height": 32, "width": 32}
    )
    hf.Sam3Processor(images, tokenizer, target_size=112).save_pretrained(folder)


BUILDERS: dict[str, Callable[[Path], None]] = {
    "grounding-dino": _grounding_dino("GroundingDino"),
    "mm-grounding-dino": _grounding_dino("MMGroundingDino"),
    "clipseg": _clipseg,
    "seggpt": _seggpt,
    "omdet-turbo": _omdet_turbo,
    "owlv2": _owl("Owlv2"),
    "owlvit": _owl("OwlViT"),
    "sam": _sam,
    "sam3": _sam3,
    "sam3-lite-text": _sam3_lite_text,
}
