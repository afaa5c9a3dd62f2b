"""Tiny random embedders in the hub's on-disk format, with real tokenizer files."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tiny_checkpoints import clip_tokenizer
from tiny_sam import sam_checkpoint
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel

from pipeline.models.checkpoints.info import ModelInfo, describe
from pipeline.models.naming.names import named_categories
from pipeline.prompts.request import Exemplar, Request
from schemas.config.model import NamingConfig
from schemas.config.prompts import ConflictsConfig, EverythingConfig
from schemas.prompts import Ontology

SIDE = 32
EASY = EverythingConfig(points_per_side=6, pred_iou_thresh=-1, stability_score_thresh=-1)
"""What a random SAM finds is taken as it is."""
_SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
_VISION = {**_SMALL, "image_size": SIDE, "patch_size": 8}


@cache
def _root() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="maskmill-embedder-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def embedder_checkpoint(name: str) -> Path:
    """Folder of a tiny checkpoint, a key of `BUILDERS`."""
    folder = _root() / name
    folder.mkdir()
    torch.manual_seed(5)
    BUILDERS[name](folder)
    return folder


def named_info(
    name: str,
    ontology: Ontology | None = None,
    exemplars: Sequence[Exemplar] = (),
    *,
    sam: Path | None = None,
    everything: EverythingConfig = EASY,
    conflicts: ConflictsConfig | None = None,
    **naming: Any,
) -> ModelInfo:
    """A SAM and a tiny embedder as the driver describes them."""
    config = NamingConfig(**naming)
    return replace(
        describe(str(sam or sam_checkpoint("sam"))),
        family="embedder",
        partner=describe(str(embedder_checkpoint(name))),
        categories=named_categories(ontology, exemplars, keep_unnamed=config.keep_unnamed),
        asking=Request(
            everything=everything,
            conflicts=conflicts or ConflictsConfig(),
            ontology=ontology,
            naming=config,
            exemplars=tuple(exemplars),
        ),
    )


def _widened(model: Any) -> Any:
    """Random networks of small weights say the same of everything."""
    with torch.no_grad():
        for key, value in model.named_parameters():
            if value.ndim > 1:
                torch.nn.init.normal_(value, std=1.0 if "embedding" in key else 0.3)
    return model


def _clip(folder: Path) -> None:
    tokenizer = clip_tokenizer(24)
    text = {
        **_SMALL,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 24,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    config = hf.CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=16)
    _widened(hf.CLIPModel(config)).save_pretrained(folder)
    images = hf.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=SIDE)
    hf.CLIPProcessor(images, tokenizer).save_pretrained(folder)


def letters(end: str, filler: str) -> Tokenizer:
    """One token a letter."""
    words = dict.fromkeys((filler, end, "<unk>", *"abcdefghijklmnopqrstuvwxyz ,.!"))
    tokenizer = Tokenizer(
        WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return tokenizer


def _siglip(make: str, end: str, filler: str) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        tokenizer = hf.PreTrainedTokenizerFast(
            tokenizer_object=letters(end, filler),
            eos_token=end,
            pad_token=filler,
            unk_token="<unk>",
            model_max_length=24,
        )
        text = {**_SMALL, "vocab_size": 64, "max_position_embeddings": 24, "projection_size": 32}
        config = hf.SiglipConfig(text_config=text, vision_config=_VISION)
        model = _widened(hf.SiglipModel(config))
        with torch.no_grad():
            model.logit_scale.fill_(2.0)
            model.logit_bias.fill_(-1.5)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_text())
        path.write_text(json.dumps({**settings, "tokenizer_class": make}))
        size = {"height": SIDE, "width": SIDE}
        hf.SiglipImageProcessor(size=size).save_pretrained(folder)

    return build


def _naflex(folder: Path) -> None:
    """SigLIP 2 whose pictures come as patches; its square of 32 pixels has 16 of them."""
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=letters("<eos>", "<pad>"),
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=24,
    )
    text = {**_SMALL, "vocab_size": 64, "max_position_embeddings": 24, "projection_size": 32}
    vision = {**_SMALL, "num_patches": 64, "patch_size": 8}
    model = _widened(hf.Siglip2Model(hf.Siglip2Config(text_config=text, vision_config=vision)))
    with torch.no_grad():
        model.logit_scale.fill_(2.0)
        model.logit_bias.fill_(-1.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "tokenizer_class": "GemmaTokenizer"}))
    hf.Siglip2ImageProcessor(patch_size=8, max_num_patches=18).save_pretrained(folder)


def _dinov2(folder: Path) -> None:
    config = hf.Dinov2Config(**_VISION)
    _widened(hf.Dinov2Model(config)).save_pretrained(folder)
    images = hf.BitImageProcessor(size={"shortest_edge": 40}, crop_size=SIDE)
    images.save_pretrained(folder)


BUILDERS: dict[str, Callable[[Path], None]] = {
    "clip": _clip,
    "siglip": _siglip("SiglipTokenizer", "</s>", "</s>"),
    "siglip2": _siglip("GemmaTokenizer", "<eos>", "<pad>"),
    "siglip2-naflex": _naflex,
    "dinov2": _dinov2,
}
