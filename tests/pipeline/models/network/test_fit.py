"""Fitter: the same input as the checkpoint's own image processor makes, to the last bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torchvision.transforms.v2 import functional as F

from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.grids.geometry import FitRule, Padding, Size
from pipeline.models.network.fit import Fitter, View
from schemas.records import ImageRecord, Sample

SIZES = [(1, 1), (1, 7), (37, 53), (50, 33), (100, 99), (64, 64), (201, 300), (331, 77), (9, 64)]
EDGES = {"shortest_edge": 64, "longest_edge": 128}
SQUARE = {"height": 64, "width": 64}
PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "beit": ("Beit", {"size": SQUARE}),
    "convnext": ("ConvNext", {"size": {"shortest_edge": 384}}),
    "deit": ("DeiT", {"size": SQUARE, "do_center_crop": False}),
    "dpt": ("DPT", {"size": SQUARE}),
    "dpt-shape-kept": (
        "DPT",
        {"size": SQUARE, "keep_aspect_ratio": True, "ensure_multiple_of": 4},
    ),
    "dpt-padded": ("DPT", {"size": {"height": 60, "width": 63}, "do_pad": True, "size_divisor": 9}),
    "eomt": ("Eomt", {"size": {"shortest_edge": 64, "longest_edge": 64}, "do_pad": True}),
    "mask2former": ("Mask2Former", {"size": EDGES, "size_divisor": 32}),
    "mask2former-padded": (
        "Mask2Former",
        {"size": EDGES, "pad_size": {"height": 160, "width": 160}},
    ),
    "maskformer-stretched": ("MaskFormer", {"size": {"height": 100, "width": 90}}),
    "mobilenetv2": (
        "MobileNetV2",
        {"size": {"height": 65, "width": 65}, "do_center_crop": False},
    ),
    "mobilevit": ("MobileViT", {"size": {"shortest_edge": 64}, "do_center_crop": False}),
    "oneformer": ("OneFormer", {"size": EDGES}),
    "owlvit": ("OwlViT", {"size": SQUARE}),
    "sapiens2": ("Sapiens2", {"size": {"height": 64, "width": 48}}),
    "tipsv2": ("Tipsv2Dpt", {"size": SQUARE}),
    "segformer": ("Segformer", {"size": {"height": 64, "width": 48}}),
    "segformer-raw": ("Segformer", {"size": SQUARE, "do_normalize": False, "resample": 0}),
}


def picture(hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)


def sample(pixels: np.ndarray, original_hw: tuple[int, int] | None = None) -> Sample:
    return Sample(ImageRecord("a", ""), pixels, original_hw or pixels.shape[:2])


def saved(name: str, folder: Path) -> Path:
    kind, options = PROCESSORS[name]
    getattr(transformers, f"{kind}ImageProcessor")(**options).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", PROCESSORS)
def test_the_input_is_that_of_the_checkpoints_own_processor(name: str, tmp_path: Path):
    theirs = transformers.AutoImageProcessor.from_pretrained(saved(name, tmp_path))
    fitter = Fitter(read_fit_rule(preprocessor(tmp_path)), "cpu")
    extra = {"task_inputs": ["semantic"]} if name == "oneformer" else {}
    for seed, hw in enumerate(SIZES):
        pixels = picture(hw, seed)
        expected = theirs(pixels, return_tensors="pt", input_data_format="channels_last", **extra)
        found, (frame,) = fitter.batch([sample(pixels)])
        assert frame.picture_hw == hw
        assert found.shape[-2:] == frame.input_hw
        assert found.dtype == torch.float32
        assert torch.equal(found[0], expected["pixel_values"][0]), hw


@pytest.mark.parametrize("kind", ["MobileNetV2", "MobileViT"])
@pytest.mark.parametrize("hw", [(100, 99), (201, 300), (331, 120), (64, 200)])
def test_what_a_processor_crops_to_is_the_middle_of_ours(
    kind: str, hw: tuple[int, int], tmp_path: Path
):
    """The crop leaves pixels without a label; without it the same pixels have the same values."""
    processor = getattr(transformers, f"{kind}ImageProcessor")(
        size={"shortest_edge": 72}, crop_size=SQUARE, do_center_crop=True
    )
    processor.save_pretrained(tmp_path)
    pixels = picture(hw)
    given = processor(pixels, return_tensors="pt", input_data_format="channels_last")
    found, (frame,) = Fitter(read_fit_rule(preprocessor(tmp_path)), "cpu").batch([sample(pixels)])
    assert min(frame.content_hw) == 72
    top, left = ((side - 64) // 2 for side in frame.content_hw)
    assert torch.equal(found[..., top : top + 64, left : left + 64], given["pixel_values"])


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"feature_extractor_type": "SegformerFeatureExtractor", "size": 512}, "stretch 512 512"),
        (
            {"image_processor_type": "MaskFormerFeatureExtractor", "size": 640, "max_size": 2560},
            "shortest 640 2560",
        ),
        ({"image_processor_type": "OneFormerImageProcessorFast"}, "shortest 800 1333"),
        ({"image_processor_type": "SegformerImageProcessorPil", "size": [3, 5]}, "stretch 3 5"),
        ({"image_processor_type": "ConvNextImageProcessor", "size": 224}, "shortest 256 0"),
        ({"image_processor_type": "ConvNextFeatureExtractor", "size": 512}, "stretch 512 512"),
        # a crop: nothing of the picture is left out
        ({"image_processor_type": "MobileNetV2ImageProcessor"}, "shortest 256 0"),
        (
            {
                "image_processor_type": "BeitImageProcessor",
                "size": {"height": 256, "width": 256},
                "do_center_crop": True,
            },
            "stretch 224 224",
        ),
    ],
)
def test_older_files_and_crops(settings: dict[str, Any], size: str):
    found = read_fit_rule(settings).size
    assert f"{found.kind} {found.height} {found.width}" == size


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_processor_type": "SegfomerImageProcessor"}, "did you mean 'segformer'"),
        ({"image_processor_type": "DPTImageProcessor", "size": {"edge": 3}}, r"keys \['edge'\]"),
        ({"image_processor_type": "DPTImageProcessor", "size": "3"}, "size is '3'"),
        ({"image_processor_type": "DPTImageProcessor", "resample": 9}, "resample is 9"),
        ({"size": {"height": -64, "width": 64}}, "cannot be made -64 × 64 pixels large"),
        ({"size": {"height": 10**9, "width": 64}}, "cannot be made 1000000000 × 64 pixels large"),
        ({"rescale_factor": 0}, "rescale_factor must be a number above 0, got 0"),
        ({"rescale_factor": "1/255"}, "rescale_factor must be a number above 0, got '1/255'"),
        ({"image_mean": [0.5]}, r"image_mean must be a number a channel, got \[0\.5\]"),
        ({"image_mean": [0.5] * 4}, "image_mean must be a number a channel"),
        ({"image_mean": [float("nan")] * 3}, "image_mean must be a number a channel"),
        ({"image_std": [0, 0, 0]}, "image_std must be a number above 0 a channel"),
    ],
)
def test_unknown_settings_are_named(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        read_fit_rule({"image_processor_type": "SegformerImageProcessor", **settings})


def test_one_number_is_that_of_all_channels(tmp_path: Path):
    """As transformers takes it."""
    processor = transformers.SegformerImageProcessor(size=SQUARE, image_mean=0.4, image_std=0.3)
    processor.save_pretrained(tmp_path)
    given = json.loads((tmp_path / "preprocessor_config.json").read_text())
    rule = read_fit_rule(given | {"image_mean": 0.4, "image_std": 0.3})
    assert (rule.mean, rule.std) == ((0.4,) * 3, (0.3,) * 3)
    pixels = picture((50, 33))
    expected = processor(pixels, return_tensors="pt", input_data_format="channels_last")
    found, _ = Fitter(rule, "cpu").batch([sample(pixels)])
    torch.testing.assert_close(found, expected["pixel_values"], atol=1e-5, rtol=0)


def test_a_folder_without_the_file_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"preprocessor_config\.json"):
        preprocessor(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("[1]")
    with pytest.raises(ValueError, match="no image processor's configuration"):
        preprocessor(tmp_path)


def test_a_strip_of_a_picture_does_not_become_a_giant():
    rule = FitRule(size=Size("shortest", 256))
    assert rule.frame((1, 5000)).content_hw == (1, 2048)
    assert rule.frame((200, 1600)).content_hw == (256, 2048)
    huge = FitRule(size=Size("shortest", 800, 1333)).frame((1, 9000))
    assert huge.content_hw == (1, 1333)


def test_padding_for_windows_and_multiples():
    padding = Padding(divisor=32)
    frame = FitRule(size=Size("shortest", 60, 90), padding=padding).frame((30, 40))
    assert (frame.content_hw, frame.input_hw, frame.offset_yx) == ((60, 80), (64, 96), (0, 0))
    windows = read_fit_rule({"image_processor_type": "EomtImageProcessor", "size": 64}, split=True)
    assert windows.frame((10, 30)).input_hw == (64, 192)


def test_a_picture_decoded_smaller_keeps_the_originals_frame():
    rule = FitRule(size=Size("shortest", 64, 128))
    x, (frame,) = Fitter(rule, "cpu").batch([sample(picture((51, 67)), (101, 133))])
    assert frame == rule.frame((101, 133))
    assert x.shape == (1, 3, 64, 84)


def test_a_flipped_view_is_the_flip_of_the_picture():
    rule = FitRule(size=Size("shortest", 40, 80), padding=Padding(to_hw=(90, 90)))
    fitter = Fitter(rule, "cpu")
    pixels = picture((31, 47))
    for flip_yx in [(True, False), (False, True), (True, True)]:
        x, (frame,) = fitter.batch([sample(pixels)], View(flip_yx=flip_yx))
        turned = np.flip(pixels, [axis for axis in (0, 1) if flip_yx[axis]])
        expected, _ = fitter.batch([sample(np.ascontiguousarray(turned))])
        assert torch.equal(x, expected)
        back = x[0].flip([axis - 2 for axis in (0, 1) if flip_yx[axis]])
        (top, left), (height, width) = frame.offset_yx, frame.content_hw
        plain, _ = fitter.batch([sample(pixels)])
        content = back[:, top : top + height, left : left + width]
        assert (content - plain[0, :, :height, :width]).abs().max() < 0.05  # resized, then flipped
        assert back.count_nonzero() == content.count_nonzero()


def test_a_scaled_view_scales_every_side():
    rule = FitRule(size=Size("stretch", 64, 96), padding=Padding(to_hw=(128, 128)))
    frame = rule.frame((10, 20), scale=1.5)
    assert (frame.content_hw, frame.input_hw) == ((96, 160), (192, 192))
    assert FitRule(size=Size("shortest", 50, 100)).frame((9, 12), scale=0.5).content_hw == (25, 33)


def test_without_antialias_as_plain_interpolation():
    rule = FitRule(size=Size("stretch", 20, 30), antialias=False, mean=None, rescale=1)
    pixels = picture((90, 100))
    x, _ = Fitter(rule, "cpu").batch([sample(pixels)])
    plain = F.resize(torch.from_numpy(pixels).permute(2, 0, 1), [20, 30], antialias=False)
    assert torch.equal(x[0], plain.float())


def test_what_was_begun_ahead_is_used_once_and_for_the_same_pictures_only():
    rule = FitRule(size=Size("stretch", 20, 30))
    fitter = Fitter(rule, "cpu")
    first, second = sample(picture((9, 9))), sample(picture((9, 9), 1))
    plain, _ = fitter.batch([first])
    fitter.ahead([first])
    assert fitter._ahead is None, "a CPU has no time to spare"
    begun = torch.ones(1, 3, 20, 30)
    for view, samples, taken in [
        (View(), [second], False),
        (View(), [first, first], False),
        (View(scale=2), [first], False),
        (View(), [first], True),
    ]:
        fitter._ahead = View(), [first], begun
        assert (fitter.batch(samples, view)[0] is begun) == taken
        assert fitter._ahead is None
    assert torch.equal(fitter.batch([first])[0], plain)
