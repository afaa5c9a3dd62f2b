"""OneFormer: features once for all tasks, and each task as the whole network answers it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from tiny_checkpoints import checkpoint

from pipeline.models.checkpoints.info import describe
from pipeline.models.grids.geometry import Frame
from pipeline.models.oneformer import OneFormerNet, OneFormerSegmenter, task_tokens
from schemas.config.model import ModelConfig
from schemas.records import TASKS, ImageRecord, Sample

OPTIONS = ModelConfig(name="x", threshold=0)


def whole_model() -> Any:
    folder = checkpoint("oneformer")
    model = transformers.OneFormerForUniversalSegmentation.from_pretrained(
        folder, is_training=False
    )
    return model.eval()


def info_of(folder: Path) -> Any:
    config = json.loads((folder / "config.json").read_text())
    return SimpleNamespace(folder=str(folder), config=config)


def test_tokens_are_those_of_the_checkpoints_own_processor():
    processor = transformers.OneFormerProcessor.from_pretrained(checkpoint("oneformer"))
    picture = np.zeros((64, 64, 3), np.uint8)
    tokens = task_tokens(info_of(checkpoint("oneformer")), TASKS)
    assert tokens.shape == (3, 77)
    for task, row in zip(TASKS, tokens, strict=True):
        given = processor(picture, [task], return_tensors="pt", input_data_format="channels_last")
        assert torch.equal(row, given["task_inputs"][0].float())
    assert len(set(map(tuple, tokens.tolist()))) == 3


@pytest.mark.parametrize("hw", [(64, 64), (60, 128), (4, 100)])
def test_each_task_is_answered_as_by_the_whole_network(hw: tuple[int, int]):
    model, own = whole_model(), whole_model()
    tokens = task_tokens(info_of(checkpoint("oneformer")), TASKS)
    pixels = torch.randn(2, 3, *hw, generator=torch.Generator().manual_seed(1))
    frames = [Frame(hw, hw, hw)] * 2
    calls: list[Any] = []
    own.model.pixel_level_module.encoder.register_forward_hook(lambda *each: calls.append(each))
    answers = OneFormerNet(own.model, tokens, TASKS, OPTIONS).look(pixels, frames)
    assert len(calls) == 1, "features are computed once"
    different = []
    for task, token in zip(TASKS, tokens, strict=True):
        with torch.no_grad():
            expected = model(pixels, task_inputs=token[None].expand(2, -1))
        for index, output in enumerate(answers[task]):
            for ours, theirs in (
                (output.class_logits, expected.class_queries_logits[index]),
                (output.mask_logits, expected.masks_queries_logits[index]),
            ):
                largest = float(theirs.abs().max())
                torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * max(largest, 1))
        different.append(expected.class_queries_logits)
    assert not torch.allclose(different[0], different[1]), "the task must change something"


def test_padding_to_whole_patches_is_what_the_backbone_does_itself():
    model = whole_model()
    pixels = torch.randn(1, 3, 61, 98, generator=torch.Generator().manual_seed(1))
    padded = torch.nn.functional.pad(pixels, (0, 2, 0, 3))
    token = task_tokens(info_of(checkpoint("oneformer")), ("panoptic",))
    with torch.no_grad():
        plain = model(pixels, task_inputs=token)
        ours = model(padded, task_inputs=token)
    assert torch.equal(plain.masks_queries_logits, ours.masks_queries_logits)
    assert plain.masks_queries_logits.shape[-2:] == (16, 25)


def test_the_text_encoder_stays_on_disk():
    saved = load_file(checkpoint("oneformer") / "model.safetensors")
    assert any("text_mapper" in key for key in saved)
    model = OneFormerSegmenter(describe(str(checkpoint("oneformer"))), OPTIONS, ("panoptic",))
    model.load("cpu")
    picture = np.full((40, 50, 3), 90, np.uint8)
    (found,) = model.segment([Sample(ImageRecord("a", ""), picture, (40, 50))])
    assert found.failure is None
    weights = model._net("cpu")._model.state_dict()
    assert weights
    assert not any("text_mapper" in key for key in weights)


def test_a_checkpoint_without_tokenizer_says_what_is_missing(tmp_path: Path):
    shutil.copytree(checkpoint("oneformer"), tmp_path, dirs_exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"no tokenizer \(vocab\.json"):
        task_tokens(info_of(tmp_path), ("panoptic",))


def test_layers_that_no_checkpoint_holds_are_refused():
    config = transformers.OneFormerConfig.from_pretrained(
        checkpoint("oneformer"), enforce_input_proj=True, is_training=False
    )
    model: Any = transformers.OneFormerModel(config)
    with pytest.raises(ValueError, match="conv_dim"):
        OneFormerNet(model, torch.zeros(1, 77), ("panoptic",), OPTIONS)
