"""What a checkpoint brings along, and what of it cannot be taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pipeline.training.learn.nets import architecture_of, net_of, new_net
from pipeline.training.learn.semantic import save_semantic
from schemas.categories import Categories, Category
from schemas.config.training import SemanticTrainConfig

SKY = Category(1, "sky", False, "#3060e0")
KITE = Category(2, "kite", True, "#d03020")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = SemanticTrainConfig.parse({"net": {"encoder": "resnet18", "depth": 3}})
    model = new_net("unet", config, 2)
    table = Categories((SKY, KITE))
    save_semantic(tmp_path, model, model.net, categories=table, licence="MIT", training={})
    return tmp_path


def test_statistics_of_the_checkpoint_are_kept(folder: Path):
    assert net_of(str(folder), Categories((SKY, KITE))).mean == pytest.approx((0.485, 0.456, 0.406))
    path = folder / "maskmill.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1]}))
    taken = net_of(str(folder), Categories((SKY, KITE)))
    assert taken.mean == pytest.approx((0.5, 0.4, 0.3))
    assert taken.std == pytest.approx((0.2, 0.2, 0.1))
    assert architecture_of(taken) == "unet"


def test_blue_first_is_refused(folder: Path):
    path = folder / "maskmill.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "bgr": True}))
    with pytest.raises(ValueError, match="wants blue first"):
        net_of(str(folder), Categories((SKY, KITE)))


def test_outputs_follow_names_whatever_their_ids(folder: Path):
    table = Categories((Category(9, "Kite", True, "#d03020"), Category(4, "sky", False, "#3060e0")))
    before = net_of(str(folder), Categories((SKY, KITE))).net.state_dict()
    after = net_of(str(folder), table).net.state_dict()
    name = "segmentation_head.0.weight"
    torch.testing.assert_close(after[name], before[name].flip(0))
    assert torch.equal(after["encoder.conv1.weight"], before["encoder.conv1.weight"])
