"""Tiny random SAMs of every make, built offline."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from pipeline.models.sam_core.checkpoint import spare_default_backbone

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
"""Made for all tests of the decoders; `sam_checkpoint` knows "edgetam" and "sam3_tracker" too."""


def tiny_sam(kind: str, *, spread: float = 0.2, seed: int = 0) -> Any:
    """A model of one of `KINDS`, all of whose parameters are drawn with one spread."""
    torch.manual_seed(seed)
    makes = {"sam": _sam, "sam_hq": _sam_hq, "sam2": _sam2, "package": _package}
    model = {**makes, "sam3_tracker": _sam3_tracker}[kind]()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=spread)
    return model.eval()


@cache
def sam_checkpoint(kind: str, *, spread: float = 0.2) -> Path:
    """Folder of such a model in the hub's on-disk format; all kinds but "package"."""
    import transformers as hf

    folder = Path(tempfile.mkdtemp(prefix="maskmill-sam-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    model = tiny_edgetam(spread=spread) if kind == "edgetam" else tiny_sam(kind, spread=spread)
    model.save_pretrained(folder)
    square, small = {"height": 64, "width": 64}, {"height": 32, "width": 32}
    processor: Any = (
        hf.Sam3ImageProcessor(size={"height": 112, "width": 112}, mask_size=small)
        if kind == "sam3_tracker"
        else hf.Sam2ImageProcessor(size=square, mask_size=small)
        if kind in ("sam2", "edgetam")
        else hf.SamImageProcessor(
            size={"longest_edge": 64},
            pad_size=square,
            mask_size={"longest_edge": 32},
            mask_pad_size=small,
        )
    )
    processor.save_pretrained(folder)
    return folder


def tiny_edgetam(*, spread: float = 0.2) -> Any:
    """An EdgeTAM; its backbone is one of timm's and keeps that library's initial weights."""
    from transformers import (
        EdgeTamConfig,
        EdgeTamModel,
        EdgeTamVisionConfig,
        TimmWrapperConfig,
    )

    spare_default_backbone()
    torch.manual_seed(0)
    backbone = TimmWrapperConfig(
        architecture="repvit_m1.dist_in1k",
        do_pooling=False,
        model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
    )
    vision = EdgeTamVisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[384, 192, 96, 48],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=32,
    )
    prompt = {"hidden_size": 32, "image_size": 64, "patch_size": 16}
    model = EdgeTamModel(
        EdgeTamConfig(
            vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=DECODER
        )
    )
    for name, parameter in model.named_parameters():
        if "backbone" not in name:
            torch.nn.init.normal_(parameter, std=spread)
    return model.eval()


@cache
def video_checkpoint(kind: str) -> Path:
    """Folder of "sam2" or "edgetam" with the memory for videos around it, as they are published.

    The weights that are for pictures are those of `sam_checkpoint(kind)`.
    """
    import transformers as hf

    image = hf.AutoModel.from_pretrained(sam_checkpoint(kind))
    name = {"sam2": "Sam2Video", "edgetam": "EdgeTamVideo"}[kind]
    small = {"hidden_size": 32, "image_size": 64, "patch_size": 16}
    narrow = ("memory_attention_hidden_size", "memory_attention_mlp_hidden_size")
    narrow += ("memory_encoder_hidden_size", "mask_downsampler_embed_dim")
    narrow += ("memory_fuser_intermediate_dim", "memory_fuser_embed_dim")
    config_class: Any = getattr(hf, f"{name}Config")
    config_class.has_no_defaults_at_init = True
    config = config_class(
        vision_config=image.config.vision_config,
        prompt_encoder_config=getattr(hf, f"{name}PromptEncoderConfig")(**small),
        mask_decoder_config=getattr(hf, f"{name}MaskDecoderConfig")(**DECODER),
        **dict.fromkeys(narrow, 32),
        memory_attention_num_layers=1,
        memory_fuser_num_layers=1,
        memory_encoder_output_channels=16,
        memory_attention_rope_feat_sizes=[4, 4],
        **({"perceiver_resampler_hidden_size": 16} if kind == "edgetam" else {}),
        **({"perceiver_resampler_attention_head_dim": 16} if kind == "edgetam" else {}),
    )
    model = getattr(hf, f"{name}Model")(config)
    assert not model.load_state_dict(image.state_dict(), strict=False).unexpected_keys
    folder = Path(tempfile.mkdtemp(prefix="maskmill-sam-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    model.save_pretrained(folder)
    shutil.copy(sam_checkpoint(kind) / "preprocessor_config.json", folder)
    return folder


def package_checkpoint() -> Path:
    """Folder of a tiny model of the segment-anything package, with its weights as a pickle.

    The package knows its models by name alone: to load this one, a test has to put
    `package_of_full_size` into `segment_anything.sam_model_registry` as "vit_b".
    """
    folder = Path(tempfile.mkdtemp(prefix="maskmill-sam-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    config = {"format": "maskmill", "family": "sam", "architecture": {"name": "vit_b"}}
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = package_of_full_size()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    torch.save(model.state_dict(), folder / "sam_vit_b_tiny.pth")
    return folder


def package_of_full_size() -> Any:
    """The package's network, narrow and shallow, for its own input of 1024×1024."""
    return _package(side=1024, patch=16, blocks=1)


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


def _sam3_tracker() -> Any:
    """The clicks and boxes of SAM 3; its encoder is that of the concept finder."""
    from tiny_text import sam3_vision
    from transformers import Sam3TrackerConfig, Sam3TrackerModel

    prompt = {"hidden_size": 32, "image_size": 112, "patch_size": 14}
    return Sam3TrackerModel(
        Sam3TrackerConfig(
            vision_config={"model_type": "sam3_vision_model", **sam3_vision()},
            prompt_encoder_config=prompt,
            mask_decoder_config=DECODER,
        )
    )


def _package(*, side: int = 64, patch: int = 8, blocks: int = 2) -> Any:
    from segment_anything.modeling import (
        ImageEncoderViT,
        MaskDecoder,
        PromptEncoder,
        Sam,
        TwoWayTransformer,
    )

    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=side,
            patch_size=patch,
            embed_dim=32,
            depth=blocks,
            num_heads=2,
            out_chans=32,
            use_rel_pos=True,
            window_size=4,
            global_attn_indexes=(1,),
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=32,
            image_embedding_size=(side // patch, side // patch),
            input_image_size=(side, side),
            mask_in_chans=8,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=32,
            transformer=TwoWayTransformer(depth=2, embedding_dim=32, num_heads=2, mlp_dim=32),
        ),
    )
