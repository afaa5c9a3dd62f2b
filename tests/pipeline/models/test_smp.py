"""Networks of segmentation-models-pytorch: loaded as it loads them, asked as it answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as library
import torch
from pycocotools import mask as coco_mask
from tiny_smp import tiny_smp

from pipeline.models.checkpoints.info import describe
from pipeline.models.checkpoints.smp import read_smp
from pipeline.models.smp import SmpSegmenter, load_smp
from schemas.config.model import ModelConfig
from schemas.records import ImageRecord, Sample, Segmentation

ARCHITECTURES = sorted(each.__name__ for each in library.MODEL_ARCHITECTURES_MAPPING.values())


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def segmented(folder: Path, pixels: np.ndarray, **options: Any) -> Segmentation:
    info = describe(str(folder))
    given = ModelConfig.model_validate({"name": str(folder), **options})
    model = SmpSegmenter(info, given, ("semantic",))
    model.load("cpu")
    (found,) = model.segment([Sample(ImageRecord("a", ""), pixels, pixels.shape[:2])])
    return found


def loaded(
    folder: Path, *, described_with_pickle: bool = False, allow_pickle: bool = False
) -> torch.nn.Module:
    info = describe(str(folder), allow_pickle=described_with_pickle)
    return load_smp(info, read_smp(folder, info.config), allow_pickle=allow_pickle)


def label_map(found: Segmentation) -> np.ndarray:
    labels = np.zeros((found.height, found.width), int)
    for segment in found.segments:
        rle = {"size": [found.height, found.width], "counts": segment.counts}
        labels[coco_mask.decode(rle) > 0] = segment.category_id
    return labels


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


def answer_of_the_library(folder: Path, pixels: np.ndarray) -> torch.Tensor:
    """C×H×W, what the network answers where it is loaded and fed by the library itself."""
    net = library.from_pretrained(str(folder)).eval()
    prepare = library.encoders.get_preprocessing_fn(config_of(folder)["encoder_name"])
    x = torch.from_numpy(prepare(pixels)).float().permute(2, 0, 1)[None]
    with torch.inference_mode():
        return net(x)[0]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_loaded_as_the_library_loads_it(name: str, tmp_path: Path):
    tiny_smp(tmp_path, name=name)
    net = loaded(tmp_path)
    own = library.from_pretrained(str(tmp_path)).eval()
    x = torch.randn(1, 3, 128, 160)
    with torch.inference_mode():
        assert torch.equal(net(x), own(x))


def test_categories_are_the_librarys(tmp_path: Path):
    pixels = picture(96, 128)
    found = segmented(tiny_smp(tmp_path), pixels)
    expected = answer_of_the_library(tmp_path, pixels).argmax(0).numpy()
    ids = np.array(describe(str(tmp_path)).category_ids)
    assert len(set(ids)) == 4
    assert len(np.unique(expected)) > 2
    assert (label_map(found) == ids[expected]).mean() > 0.9999


@pytest.mark.parametrize("threshold", [None, 0.3, 0.9])
@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_one_output_says_yes_or_no(tmp_path: Path, activation, threshold):
    pixels = picture(64, 96)
    tiny_smp(tmp_path, classes=1, activation=activation)
    found = label_map(segmented(tmp_path, pixels, threshold=threshold))
    answer = answer_of_the_library(tmp_path, pixels)[0]
    probability = answer if activation else answer.sigmoid()
    yes = (probability > (threshold or 0.5)).numpy()
    table = describe(str(tmp_path)).categories.by_id()
    (category,) = [id_ for id_ in table if not table[id_].is_background]
    (background,) = [id_ for id_ in table if table[id_].is_background]
    assert 0.05 < yes.mean() < 0.95
    assert (found == np.where(yes, category, background)).mean() > 0.9999


def test_of_several_yeses_the_surest_counts(tmp_path: Path):
    pixels = picture(64, 96)
    tiny_smp(tmp_path, classes=3, activation="sigmoid")
    found = label_map(segmented(tmp_path, pixels, threshold=0.6))
    probabilities = answer_of_the_library(tmp_path, pixels).numpy()
    expected = np.where(probabilities.max(0) > 0.6, probabilities.argmax(0), 3)
    ids = np.array(describe(str(tmp_path)).category_ids)
    assert len(ids) == 4
    assert (found == ids[expected]).mean() > 0.9999


def test_pictures_of_any_size_and_a_classifier_beside(tmp_path: Path):
    tiny_smp(tmp_path, name="FPN", aux_params={"classes": 2})
    for hw in [(1, 1), (1, 70), (33, 65), (31, 32)]:
        found = segmented(tmp_path, picture(*hw))
        assert sum(segment.area for segment in found.segments) == hw[0] * hw[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_model_class": "UNet"}, "did you mean 'Unet'"),
        ({"encoder_name": "resnet19"}, "resnet19"),
        ({"encoder_depth": 9}, "depth"),
        ({"decoder_channels": [16, 8]}, "decoder_channels"),
        ({"encoder_name": "tu-test_efficientnet"}, "weights do not fit"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_network_that_cannot_be_built_is_named(tmp_path: Path, change, message: str):
    config = config_of(tiny_smp(tmp_path)) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        loaded(tmp_path)


def test_pickled_weights_need_permission(tmp_path: Path):
    tiny_smp(tmp_path)
    net = loaded(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(net.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="--allow-pickle"):
        describe(str(tmp_path))
    with pytest.raises(ValueError, match="--allow-pickle"):
        loaded(tmp_path, described_with_pickle=True)
    again = loaded(tmp_path, described_with_pickle=True, allow_pickle=True)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(again(x), net(x))


def test_an_encoder_of_large_patches_needs_a_divisor(tmp_path: Path):
    tiny_smp(tmp_path, name="DPT", img_size=64, patch_size=64)
    with pytest.raises(ValueError, match=r"multiples of 64: set \"divisor\" in maskmill\.json"):
        segmented(tmp_path, picture(30, 50))
    (tmp_path / "maskmill.json").write_text(json.dumps({"divisor": 64}))
    found = segmented(tmp_path, picture(30, 70))
    assert sum(segment.area for segment in found.segments) == 30 * 70
