"""Every network that is trained can be stored, described, loaded, and answers the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.masks import codec
from pipeline.models.checkpoints.families import segmenter_class
from pipeline.models.checkpoints.info import describe
from pipeline.training.learn.nets import TrainableNet, architecture_of, net_of, new_net
from pipeline.training.learn.semantic import save_semantic
from schemas.categories import Categories, Category
from schemas.config.model import ModelConfig
from schemas.config.training import Architecture, SemanticTrainConfig
from schemas.records import ImageRecord, Sample

TABLE = Categories(
    (
        Category(5, "sky", False, "#3060e0"),
        Category(9, "meadow", False, "#40a040"),
        Category(40, "kite", True, "#d03020"),
        Category(41, "background", False, "#000000", is_background=True),
    )
)
ENCODERS: dict[Architecture, str] = {
    "unet": "vgg11_bn",
    "fcn": "resnet50",
    "deeplabv3": "mobilenet_v3_large",
    "segformer": "b0",
}


def made(architecture: Architecture) -> TrainableNet:
    torch.manual_seed(0)
    net = {"encoder": ENCODERS[architecture], "depth": 3}
    model = new_net(architecture, SemanticTrainConfig.parse({"net": net}), len(TABLE))
    # Answers that vary over the picture: batch statistics of something like pictures.
    model.net.train()
    with torch.no_grad():
        for _ in range(3):
            model.logits()(model.net, torch.randn(2, 3, 96, 96))
    model.net.eval()
    return model


def store(folder: Path, model: TrainableNet) -> None:
    save_semantic(
        folder, model, model.net, categories=TABLE, licence="CC0-1.0", training={"best": {}}
    )


@pytest.mark.parametrize("architecture", ENCODERS)
def test_what_was_stored_labels_as_the_network_in_memory(
    architecture: Architecture, tmp_path: Path
):
    model = made(architecture)
    store(tmp_path, model)
    info = describe(str(tmp_path))
    assert info.categories == TABLE
    assert info.category_ids == (5, 9, 40, 41)
    assert info.licence == "CC0-1.0"
    assert info.tasks == ("semantic",)
    segmenter: Any = segmenter_class(info.family)(
        info, ModelConfig(name=str(tmp_path)), ("semantic",)
    )
    segmenter.load("cpu")
    # Beside padding a label is never read from cells that saw nothing else.
    for height, width, share in ((64, 96, 0.9995), (70, 90, 0.97)):
        pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
        (found,) = segmenter.segment([Sample(ImageRecord("a", "a"), pixels, (height, width))])
        label_map = np.zeros((height, width), np.int64)
        for segment in found.segments:
            label_map[codec.decode(segment.counts, height, width) > 0] = segment.category_id
        with torch.inference_mode():
            x = model.normalised(torch.from_numpy(pixels).permute(2, 0, 1)[None])
            x = torch.nn.functional.pad(x, (0, -width % 32, 0, -height % 32))
            index = model.logits()(model.net, x)[0, :, :height, :width].argmax(0).numpy()
        expected = np.array([5, 9, 40, 41])[index]
        assert len(np.unique(expected)) > 1
        assert (label_map == expected).mean() >= share


@pytest.mark.parametrize("architecture", ["unet", "fcn", "segformer"])
def test_fine_tuning_goes_on_from_what_was_stored(architecture: Architecture, tmp_path: Path):
    model = made(architecture)
    store(tmp_path, model)
    other = Categories((TABLE.items[2], Category(7, "new", False, "#112233"), TABLE.items[0]))
    taken = net_of(str(tmp_path), other)
    assert architecture_of(taken) == architecture
    taken.net.eval()
    with torch.inference_mode():
        x = torch.randn(1, 3, 64, 64)
        before = model.logits()(model.net, x)
        after = taken.logits()(taken.net, x)
    assert after.shape[1] == 3
    torch.testing.assert_close(after[:, 0], before[:, 2])
    torch.testing.assert_close(after[:, 2], before[:, 0])


def test_what_cannot_be_trained_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="init: 'otsu' is of the family 'otsu'; trained can be"):
        net_of("otsu", TABLE)
