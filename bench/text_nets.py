"""Networks of published sizes with random weights, for bench.text_prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import transformers as hf

from pipeline.models.grids.geometry import FitRule, Padding, Size


def detector(size: str) -> Any:
    """Grounding DINO: tiny has Swin-T, base Swin-B; both BERT base and 900 queries."""
    if size == "small":
        swin: dict[str, Any] = {
            "embed_dim": 16,
            "depths": [1] * 4,
            "num_heads": [1, 2, 4, 8],
            "window_size": 4,
        }
        text: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                "intermediate_size": 32}  # fmt: skip
        more: dict[str, Any] = {
            "d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
            "num_queries": 20,
        }  # fmt: skip
    else:
        embed, depths, heads, window = {
            "tiny": (96, [2, 2, 6, 2], [3, 6, 12, 24], 7),
            "base": (128, [2, 2, 18, 2], [4, 8, 16, 32], 12),
        }[size]
        swin = {"embed_dim": embed, "depths": depths, "num_heads": heads, "window_size": window}
        text, more = {}, {}
    stages: dict[str, Any] = {"out_features": ["stage2", "stage3", "stage4"]}
    config = hf.GroundingDinoConfig(
        backbone_config=hf.SwinConfig(**swin, **stages),
        text_config=hf.BertConfig(**text),
        disable_custom_kernels=True,
        **more,
    )
    return hf.GroundingDinoForObjectDetection(config)


def package_sam(size: str) -> Any:
    """A SAM of the segment-anything package."""
    from segment_anything import sam_model_registry
    from segment_anything.modeling import (
        ImageEncoderViT,
        MaskDecoder,
        PromptEncoder,
        Sam,
        TwoWayTransformer,
    )

    if size != "small":
        return sam_model_registry[size]()
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=64, patch_size=8, embed_dim=32, depth=1, num_heads=2, out_chans=32
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=32, image_embedding_size=(8, 8), input_image_size=(64, 64), mask_in_chans=8
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=32,
            transformer=TwoWayTransformer(depth=2, embedding_dim=32, num_heads=2, mlp_dim=32),
        ),
    )


def sam_rule(side: int) -> FitRule:
    """As `sam_checkpoint` has it for the package."""
    return FitRule(
        size=Size("within", side, side),
        rescale=1.0,
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        padding=Padding(to_hw=(side, side)),
    )


def tokenizer(concepts: Sequence[str]) -> Any:
    """The concepts' words, BERT's ids for what the network looks for."""
    fixed = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    fixed |= {1012: ".", 1029: "?"}
    words = sorted({word for name in concepts for word in name.split()})
    fixed |= {2000 + index: word for index, word in enumerate(words)}
    vocabulary = {fixed.get(index, f"[unused{index}]"): index for index in range(30522)}
    return hf.BertTokenizer(vocab=vocabulary, model_max_length=512)


def image_processor(small: bool) -> Any:
    """The published settings, or a tiny picture."""
    edges = (64, 96) if small else (800, 1333)
    return hf.GroundingDinoImageProcessor(
        size={"shortest_edge": edges[0], "longest_edge": edges[1]}
    )
