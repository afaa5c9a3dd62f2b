"""EoMT: windows and whole pictures, as its own post-processing reads them."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_checkpoints import checkpoint

from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.checkpoints.info import describe
from pipeline.models.eomt import EomtSegmenter, WindowNet, window_starts
from pipeline.models.grids.geometry import Frame
from pipeline.models.network.fit import Fitter
from schemas.config.model import ModelConfig
from schemas.records import ImageRecord, Sample

OPTIONS = ModelConfig(name="x")


@pytest.mark.parametrize(
    ("length", "starts"), [(64, [0]), (65, [0, 1]), (128, [0, 64]), (129, [0, 32, 65])]
)
def test_windows_cover_the_longer_side_with_equal_overlaps(length: int, starts: list[int]):
    assert window_starts(length, 64) == starts


def test_no_pixel_is_left_out():
    for length in range(512, 5000, 13):
        starts = window_starts(length, 512)
        assert starts[0] == 0
        assert starts[-1] + 512 == length
        assert all(b - a <= 512 for a, b in pairwise(starts))


@pytest.mark.parametrize("hw", [(64, 64), (40, 77), (150, 61), (70, 300)])
def test_maps_are_those_of_its_own_post_processing(hw: tuple[int, int]):
    folder = checkpoint("eomt-windows")
    model: Any = transformers.EomtForUniversalSegmentation.from_pretrained(folder).eval()
    processor: Any = transformers.AutoImageProcessor.from_pretrained(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (*hw, 3), np.uint8)
    given = processor(pixels, return_tensors="pt", input_data_format="channels_last")
    with torch.no_grad():
        answer = model(given["pixel_values"], patch_offsets=given["patch_offsets"])
    (theirs,) = processor.post_process_semantic_segmentation(
        answer, [hw], return_segmentation_scores=True
    )

    rule = read_fit_rule(preprocessor(folder), split=True)
    x, frames = Fitter(rule, "cpu").batch([Sample(ImageRecord("a", ""), pixels, hw)])
    net = WindowNet(model, 64, device="cpu", options=OPTIONS)
    (output,) = net.look(x, frames)["semantic"]
    assert frames[0].content_hw == frames[0].input_hw == output.logits.shape[1:]
    ours = torch.nn.functional.interpolate(output.logits[None], size=hw, mode="bilinear")[0]
    torch.testing.assert_close(ours, theirs["segmentation_scores"], rtol=0, atol=1e-5)


def test_pictures_of_a_batch_do_not_mix():
    folder = checkpoint("eomt-windows")
    model: Any = transformers.EomtForUniversalSegmentation.from_pretrained(folder).eval()
    net = WindowNet(model, 64, device="cpu", options=OPTIONS)
    pixels = torch.randn(3, 3, 64, 150, generator=torch.Generator().manual_seed(1))
    frames = [Frame((64, 150), (64, 150), (64, 150))] * 3
    together = net.look(pixels, frames)["semantic"]
    for index, output in enumerate(together):
        (alone,) = net.look(pixels[index : index + 1], frames[:1])["semantic"]
        torch.testing.assert_close(output.logits, alone.logits, rtol=0, atol=1e-5)


def test_what_an_eomt_cannot_do_is_said_before_it_is_loaded():
    windows = describe(str(checkpoint("eomt-windows")))
    with pytest.raises(ValueError, match="semantic alone"):
        EomtSegmenter(windows, OPTIONS, ("panoptic",))
    scaled = ModelConfig.model_validate({"name": "x", "tta": {"scales": [1.0, 1.5]}})
    with pytest.raises(ValueError, match=r"model\.tta\.scales: an EoMT takes inputs of 64 × 64"):
        EomtSegmenter(windows, scaled, ("semantic",))


def test_attention_is_never_drawn_at_random(tmp_path: Path):
    """Training anneals the use of masks; a checkpoint from halfway would flip coins."""
    shutil.copytree(checkpoint("eomt"), tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    weights["attn_mask_probs"] = torch.full_like(weights["attn_mask_probs"], 0.6)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    options = ModelConfig(name="x", threshold=0, overlap_threshold=0)
    model = EomtSegmenter(describe(str(tmp_path)), options, ("panoptic",))
    model.load("cpu")
    picture = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    sample = Sample(ImageRecord("a", ""), picture, (50, 60))
    first, *others = (model.segment([sample])[0] for _ in range(4))
    assert first.segments
    assert others == [first] * 3


def test_masks_drawn_at_the_size_of_patches_answer_the_same():
    import transformers

    from pipeline.models.eomt import masked_answer

    torch.manual_seed(0)
    config = transformers.EomtConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=64,
        patch_size=8,
        num_queries=12,
        num_blocks=2,
    )
    model: Any = transformers.EomtForUniversalSegmentation(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05)
    del model.attn_mask_probs
    for probabilities in ([1.0, 1.0], [0.0, 1.0]):
        model.attn_mask_probs = probabilities
        pixels = torch.randn(2, 3, 64, 64)
        with torch.inference_mode():
            wanted, found = model(pixels), masked_answer(model, pixels)
        for name in ("class_queries_logits", "masks_queries_logits"):
            torch.testing.assert_close(getattr(found, name), wanted[name], rtol=1e-4, atol=1e-4)
