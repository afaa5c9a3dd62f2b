"""Tiny random SAMs of every make, built offline."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

VISION = {
    "hidden_size": 32,
    "output_channels": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 8,
    "window_size": 4,
    "global_attn_indexes": [1],
    "mlp_dim": 32,
    "num_pos_feats": 16,
}
DECODER = {
    "hidden_size": 32,
    "mlp_dim": 32,
    "num_attention_heads": 2,
    "iou_head_hidden_dim": 32,
}
KINDS = ("sam", "sam_hq", "sam2", "package")


def tiny_sam(kind: str, *, spread: float = 0.2, seed: int = 0) -> Any:
    """A model of one of `KINDS`, all of whose parameters are drawn with one spread."""
    torch.manual_seed(seed)
    model = {"sam": _sam, "sam_hq": _sam_hq, "sam2": _sam2, "package": _package}[kind]()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=spread)
    return model.eval()


@cache
def sam_checkpoint(kind: str, *, spread: float = 0.2) -> Path:
    """Folder of such a model in the hub's on-disk format; all kinds but "package"."""
    import transformers as hf

    folder = Path(tempfile.mkdtemp(prefix="maskmill-sam-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tiny_sam(kind, spread=spread).save_pretrained(folder)
    square, small = {"height": 64, "width": 64}, {"height": 32, "width": 32}
    processor: Any = (
        hf.Sam2ImageProcessor(size=square, mask_size=small)
        if kind == "sam2"
        else hf.SamImageProcessor(
            size={"longest_edge": 64},
            pad_size=square,
            mask_size={"longest_edge": 32},
            mask_pad_size=small,
        )
    )
    processor.save_pretrained(folder)
    return folder


def _sam() -> Any:
    from transformers import SamConfig, SamModel

    prompt = {"hidden_size": 32, "image_size": 64, "patch_size": 8}
    return SamModel(
        SamConfig(vision_config=VISION, prompt_encoder_config=prompt, mask_decoder_config=DECODER)
    )


def _sam_hq() -> Any:
    from transformers import SamHQConfig, SamHQModel

    prompt = {"hidden_size": 32, "image_size": 64, "patch_size": 8}
    decoder = {**DECODER, "vit_dim": 32}
    return SamHQModel(
        SamHQConfig(vision_config=VISION, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    )


def _sam2() -> Any:
    from transformers import Sam2Config, Sam2HieraDetConfig, Sam2Model, Sam2VisionConfig

    backbone = Sam2HieraDetConfig(
        hidden_size=16,
        num_attention_heads=1,
        image_size=[64, 64],
        blocks_per_stage=[1, 2, 3, 1],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[4, 2, 4, 2],
        global_attention_blocks=[2],
        window_positional_embedding_background_size=[4, 4],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=32,
    )
    prompt = {"hidden_size": 32, "image_size": 64, "patch_size": 16}
    return Sam2Model(
        Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=DECODER)
    )


def _package() -> Any:
    from segment_anything.modeling import (
        ImageEncoderViT,
        MaskDecoder,
        PromptEncoder,
        Sam,
        TwoWayTransformer,
    )

    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=64,
            patch_size=8,
            embed_dim=32,
            depth=2,
            num_heads=2,
            out_chans=32,
            use_rel_pos=True,
            window_size=4,
            global_attn_indexes=(1,),
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=32, image_embedding_size=(8, 8), input_image_size=(64, 64), mask_in_chans=8
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=32,
            transformer=TwoWayTransformer(depth=2, embedding_dim=32, num_heads=2, mlp_dim=32),
        ),
    )
