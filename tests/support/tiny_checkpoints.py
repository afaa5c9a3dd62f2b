"""Tiny random checkpoints of every family, in the hub's on-disk format, made once a session.

The networks are random but not mute: their heads are widened so that queries choose different
categories, never "nothing", and masks with clear edges.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tiny_smp import tiny_smp
from tiny_torchvision import tiny_maskrcnn, tiny_semantic
from tokenizers.pre_tokenizers import ByteLevel

NAMES = [f"c{index}" for index in range(6)]
ID2LABEL = dict(enumerate(NAMES))
EDGES = {"shortest_edge": 64, "longest_edge": 128}
SQUARE = {"height": 64, "width": 64}


@cache
def root() -> Path:
    """A folder that goes when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="maskmill-tiny-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def checkpoint(name: str) -> Path:
    """Folder of a tiny checkpoint, a key of `BUILDERS`."""
    folder = root() / name
    folder.mkdir()
    torch.manual_seed(7)
    BUILDERS[name](folder)
    return folder


_MASKS = ("mask_embed.layers.2.0.weight", "mask_embedder.2.0.weight", "mask_head.fc3.weight")


def _save(folder: Path, model: Any, processor: Any) -> None:
    with torch.no_grad():
        for key, value in model.named_parameters():
            if key.endswith(("class_predictor.weight", "class_embed.weight")):
                value.mul_(30)
            elif key.endswith(_MASKS):
                value.mul_(100)
            elif key.endswith(("class_predictor.bias", "class_embed.bias")):
                value[-1] = -8
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _swin(**options: Any) -> hf.SwinConfig:
    return hf.SwinConfig(
        image_size=64,
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[1, 2, 4, 8],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        **options,
    )


def _mask2former(folder: Path) -> None:
    config = hf.Mask2FormerConfig(
        backbone_config=_swin(),
        hidden_dim=32,
        feature_size=32,
        mask_feature_size=32,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=4,
        num_queries=8,
        id2label=ID2LABEL,
    )
    processor = hf.Mask2FormerImageProcessor(size=EDGES, size_divisor=32)
    _save(folder, hf.Mask2FormerForUniversalSegmentation(config), processor)


def _maskformer(folder: Path) -> None:
    decoder = hf.DetrConfig(
        encoder_layers=1,
        decoder_layers=1,
        d_model=32,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_queries=8,
        backbone_config=hf.ResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 8, 8, 8],
            depths=[1, 1, 1, 1],
            out_features=["stage4"],
        ),
    )
    config = hf.MaskFormerConfig(
        backbone_config=_swin(),
        decoder_config=decoder,
        fpn_feature_size=32,
        mask_feature_size=32,
        id2label=ID2LABEL,
    )
    processor = hf.MaskFormerImageProcessor(size=EDGES, size_divisor=32)
    model = hf.MaskFormerForInstanceSegmentation(config)
    with torch.no_grad():  # else all queries are alike
        for key, value in model.model.transformer_module.named_parameters():
            if key.endswith(("_proj.weight", "queries_embedder.weight")):
                value.mul_(20)
    _save(folder, model, processor)


def _detr(folder: Path) -> None:
    config = hf.DetrConfig(
        backbone_config=hf.ResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 8, 16, 16],
            depths=[1, 1, 1, 1],
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        d_model=64,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        num_queries=8,
        id2label=ID2LABEL,
    )
    model = hf.DetrForSegmentation(config)
    with torch.no_grad():  # else all queries are alike, and nothing is what they find
        for key, value in model.named_parameters():
            if key.endswith(
                (
                    "_proj.weight",
                    "query_position_embeddings.weight",
                    "class_labels_classifier.weight",
                )
            ):
                value.mul_(8)
            elif key.endswith("class_labels_classifier.bias"):
                value[-1] = -8
            elif key.endswith("mask_head.output_conv.weight"):
                value.mul_(10)
    _save(folder, model, hf.DetrImageProcessor(size=EDGES))


def _dinat() -> hf.DinatConfig:
    from pipeline.models.network.neighbourhood import allow_dinat

    allow_dinat()
    return hf.DinatConfig(
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[1, 2, 4, 8],
        kernel_size=3,
        dilations=[[1], [2], [1], [1]],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def _oneformer(folder: Path, *, backbone: Callable[[], Any] = _swin) -> None:
    tokenizer = clip_tokenizer()
    info = {str(i): {"name": name, "isthing": int(i < 3)} for i, name in ID2LABEL.items()}
    (folder / "tiny_classes.json").write_text(json.dumps(info))
    config = hf.OneFormerConfig(
        backbone_config=backbone(),
        hidden_dim=32,
        conv_dim=32,
        mask_dim=32,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        encoder_layers=1,
        decoder_layers=3,
        num_attention_heads=4,
        num_queries=8,
        text_encoder_width=64,
        text_encoder_num_layers=1,
        text_encoder_vocab_size=len(tokenizer),
        text_encoder_context_length=77,
        task_seq_len=77,
        is_training=True,  # as the published ones, whose text encoder is among the weights
        id2label=ID2LABEL,
    )
    images = hf.OneFormerImageProcessor(
        repo_path=str(folder), class_info_file="tiny_classes.json", num_text=4, size=EDGES
    )
    processor = hf.OneFormerProcessor(image_processor=images, tokenizer=tokenizer)
    model = hf.OneFormerForUniversalSegmentation(config)
    with torch.no_grad():  # else the token of the task moves nothing
        for value in model.model.task_encoder.parameters():
            value.mul_(3)
    _save(folder, model, processor)


def clip_tokenizer(length: int = 77) -> hf.CLIPTokenizer:
    """One token a byte, no merges: every text has tokens."""
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    return hf.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=length)


def _oneformer_dinat(folder: Path) -> None:
    torch.manual_seed(8)  # with 7 its queries find hardly a thing
    _oneformer(folder, backbone=_dinat)


def _eomt(kind: str, **processing: Any) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        options = {"intermediate_size": 64} if kind == "EomtDinov3" else {}
        config = getattr(hf, f"{kind}Config")(
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=64,
            patch_size=16,
            num_blocks=1,
            num_queries=8,
            num_upscale_blocks=1,
            id2label=ID2LABEL,
            **options,
        )
        model = getattr(hf, f"{kind}ForUniversalSegmentation")(config)
        _save(folder, model, hf.EomtImageProcessor(**processing))

    return build


def _segformer(folder: Path) -> None:
    config = hf.SegformerConfig(
        hidden_sizes=[8, 16, 16, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label=ID2LABEL,
    )
    processor = hf.SegformerImageProcessor(size=SQUARE, do_reduce_labels=True)
    _save(folder, hf.SegformerForSemanticSegmentation(config), processor)


def _upernet(folder: Path) -> None:
    config = hf.UperNetConfig(
        backbone_config=_swin(),
        hidden_size=16,
        auxiliary_in_channels=64,
        auxiliary_channels=16,
        id2label=ID2LABEL,
    )
    processor = hf.SegformerImageProcessor(size=SQUARE)
    _save(folder, hf.UperNetForSemanticSegmentation(config), processor)


_PLAIN = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 64,
    "patch_size": 16,
    "id2label": ID2LABEL,
}


def _dpt(folder: Path) -> None:
    config = hf.DPTConfig(
        **_PLAIN,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
        is_hybrid=False,
    )
    processor = hf.DPTImageProcessor(size=SQUARE)
    _save(folder, hf.DPTForSemanticSegmentation(config), processor)


def _beit(kind: str) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        config = getattr(hf, f"{kind}Config")(**_PLAIN, out_indices=[1, 2, 3, 4])
        model = getattr(hf, f"{kind}ForSemanticSegmentation")(config)
        _save(folder, model, hf.BeitImageProcessor(size=SQUARE))

    return build


def _mobilevit(folder: Path) -> None:
    config = hf.MobileViTConfig(
        image_size=64,
        hidden_sizes=[16, 16, 16],
        neck_hidden_sizes=[8, 8, 8, 16, 16, 16, 32],
        num_attention_heads=2,
        output_stride=16,
        aspp_out_channels=16,
        id2label=ID2LABEL,
    )
    processor = hf.MobileViTImageProcessor(size={"shortest_edge": 64}, crop_size=SQUARE)
    _save(folder, hf.MobileViTForSemanticSegmentation(config), processor)


def _mobilenetv2(folder: Path) -> None:
    config = hf.MobileNetV2Config(
        image_size=65, depth_multiplier=0.25, output_stride=16, id2label=ID2LABEL
    )
    processor = hf.MobileNetV2ImageProcessor(size={"height": 65, "width": 65}, do_center_crop=False)
    _save(folder, hf.MobileNetV2ForSemanticSegmentation(config), processor)


def _rf_detr(folder: Path) -> None:
    backbone = hf.RfDetrDinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=64,
        patch_size=16,
        num_windows=2,
        out_indices=[2, 4],
    )
    config = hf.RfDetrConfig(
        backbone_config=backbone,
        d_model=32,
        decoder_ffn_dim=32,
        decoder_layers=2,
        decoder_self_attention_heads=4,
        decoder_cross_attention_heads=4,
        num_queries=8,
        group_detr=1,
        id2label=ID2LABEL,
    )
    model = hf.RfDetrForInstanceSegmentation(config)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if key.endswith(("query_features_proj.weight", "model.class_embed.weight")):
                value.mul_(30)
            elif key.endswith("class_embed.bias"):
                value.zero_()
    model.save_pretrained(folder)
    hf.RfDetrImageProcessor(size=SQUARE).save_pretrained(folder)


def _videomt(folder: Path) -> None:
    config = hf.VideomtConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=64,
        patch_size=16,
        num_blocks=1,
        num_queries=8,
        num_upscale_blocks=1,
        id2label=ID2LABEL,
    )
    _save(folder, hf.VideomtForUniversalSegmentation(config), hf.VideomtVideoProcessor(size=SQUARE))


def _sapiens2(folder: Path) -> None:
    config = hf.Sapiens2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_first_full_attention_layers=1,
        num_last_full_attention_layers=1,
        intermediate_size=32,
        image_size=64,
        head_config={
            "upsample_out_channels": [16],
            "upsample_kernel_sizes": [4],
            "conv_out_channels": [16],
            "conv_kernel_sizes": [1],
        },
        id2label=ID2LABEL,
    )
    processor = hf.Sapiens2ImageProcessor(size={"height": 64, "width": 48})
    _save(folder, hf.Sapiens2ForSemanticSegmentation(config), processor)


def _tipsv2(folder: Path) -> None:
    backbone = {
        "model_type": "tipsv2_vision_model",
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 16,
        "out_indices": [1, 2, 3, 4],
        "apply_layernorm": True,
        "reshape_hidden_states": False,
    }
    config = hf.Tipsv2DptConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
        id2label=ID2LABEL,
    )
    model = hf.Tipsv2DptForSemanticSegmentation(config)
    _save(folder, model, hf.Tipsv2DptImageProcessor(size=SQUARE))


BUILDERS: dict[str, Callable[[Path], Any]] = {
    "beit": _beit("Beit"),
    "data2vec": _beit("Data2VecVision"),
    "detr": _detr,
    "dpt": _dpt,
    "eomt": _eomt("Eomt", size={"shortest_edge": 64, "longest_edge": 64}, do_pad=True),
    "eomt-dinov3": _eomt("EomtDinov3", size={"shortest_edge": 64, "longest_edge": 64}, do_pad=True),
    "eomt-windows": _eomt("Eomt", size={"shortest_edge": 64}, do_split_image=True),
    "lraspp": tiny_semantic,
    "mask2former": _mask2former,
    "maskformer": _maskformer,
    "maskrcnn": lambda folder: tiny_maskrcnn(folder, detections=6),
    "mobilenetv2": _mobilenetv2,
    "mobilevit": _mobilevit,
    "oneformer": _oneformer,
    "oneformer-dinat": _oneformer_dinat,
    "rf-detr": _rf_detr,
    "sapiens2": _sapiens2,
    "segformer": _segformer,
    "smp-unet": tiny_smp,
    "tipsv2-dpt": _tipsv2,
    "upernet": _upernet,
    "videomt": _videomt,
}
"""Name → makes the checkpoint in a folder."""
