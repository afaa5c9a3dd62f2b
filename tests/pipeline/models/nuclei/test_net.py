import json

import numpy as np
import pytest
import torch

from pipeline.models.checkpoints.info import describe
from pipeline.models.nuclei import predict
from pipeline.models.nuclei.net import UNet, load_unet, normalise, save_unet
from pipeline.models.nuclei.predict import picture_range, predict_batch, predict_maps


def tiny(widths=(8, 16, 16)):
    torch.manual_seed(0)
    net = UNet(widths=widths, outputs=3)
    with torch.no_grad():  # statistics that folding could get wrong
        for _ in range(3):
            net.train()(torch.randn(4, 6, 32, 32) * 2 + 1)
    return net.eval()


def saved(folder, net, widths=(8, 16, 16)):
    save_unet(folder, net, widths=widths, postprocess={"seed": 0.4}, training={"seed": 0})
    return folder


def test_a_saved_net_comes_back_to_half_precision(tmp_path):
    net = tiny()
    info = describe(str(saved(tmp_path / "a", net)))
    again = load_unet(tmp_path / "a", info.config)
    x = torch.randn(1, 6, 32, 64)
    with torch.inference_mode():
        torch.testing.assert_close(again(x), net(x), atol=2e-2, rtol=2e-2)
    assert info.tasks == ("panoptic", "semantic", "instance")
    assert [category.name for category in info.categories] == ["nucleus", "background"]


def test_saving_twice_gives_the_same_bytes(tmp_path):
    net = tiny()
    for name in ("a", "b"):
        saved(tmp_path / name, net)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_config_that_does_not_fit_is_named(tmp_path):
    saved(tmp_path, tiny())
    config = json.loads((tmp_path / "config.json").read_text())
    for architecture in ({}, {"widths": [8, 16, 32], "maps": config["architecture"]["maps"]}):
        with pytest.raises(ValueError, match=r"architecture|do not fit"):
            load_unet(tmp_path, {**config, "architecture": architecture})


def test_folding_changes_nothing():
    net, x = tiny(), torch.randn(2, 6, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(net.fused()(x), net(x), atol=1e-4, rtol=1e-4)


def test_normalising_maps_the_range_to_0_and_1():
    pixels = torch.tensor([10, 60, 110], dtype=torch.uint8).view(1, 1, 1, 3).repeat(1, 3, 1, 1)
    x = normalise(pixels, torch.tensor([10.0]), torch.tensor([110.0]))
    torch.testing.assert_close(x[0, 0, 0], torch.tensor([0.0, 0.5, 1.0]))
    assert x[0, 3, 0, 1] > 0.7  # the compressed copy lifts what is dim
    torch.testing.assert_close(x[0, 3, 0, [0, 2]], torch.tensor([0.0, 1.0]))


def test_the_range_is_that_of_the_percentiles():
    pixels = np.random.default_rng(0).integers(20, 200, (64, 64, 3)).astype(np.uint8)
    assert picture_range(pixels) == pytest.approx(np.percentile(pixels, (1, 99.8)), abs=1)
    assert picture_range(np.full((3, 3, 3), 7, np.uint8)) == (7, 15)


def test_a_tiled_picture_equals_the_whole_one(monkeypatch):
    net = tiny().fused()
    pixels = np.random.default_rng(0).integers(0, 256, (150, 213, 3)).astype(np.uint8)
    whole = predict_maps(net, pixels, "cpu")
    monkeypatch.setattr(predict, "TILE", 96)
    monkeypatch.setattr(predict, "OVERLAP", 64)
    np.testing.assert_allclose(predict_maps(net, pixels, "cpu"), whole, atol=1e-4)


def test_a_full_pass_gives_what_single_ones_give():
    net = tiny().fused()
    rng = np.random.default_rng(0)
    shapes = [(20, 30), (17, 29), (40, 8), (20, 30), (1, 1)]
    pictures = [rng.integers(0, 256, (*shape, 3)).astype(np.uint8) for shape in shapes]
    for pixels, maps in zip(
        pictures, predict_batch(net, pictures, "cpu", batch_size=2), strict=True
    ):
        assert maps.shape == (3, *pixels.shape[:2])
        np.testing.assert_allclose(maps, predict_maps(net, pixels, "cpu"), atol=1e-4)


@pytest.mark.gpu
def test_an_accelerator_agrees():
    net = tiny().fused()
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3)).astype(np.uint8)
    here = predict_maps(net, pixels, "cpu")
    np.testing.assert_allclose(predict_maps(net.to("cuda"), pixels, "cuda"), here, atol=1e-2)
