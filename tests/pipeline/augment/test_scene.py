import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.augment.chain import replay
from pipeline.augment.scene import Scene
from pipeline.masks import codec

SIZE = (40, 50)


def row(mask, task="instance"):
    return {"task": task, "rle": {"counts": codec.encode(mask).decode()}}


def blocks(count, seed):
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        mask = np.zeros(SIZE, np.uint8)
        y, x = rng.integers(0, 30, 2)
        mask[y : y + 12, x : x + 12] = 1
        out.append(mask)
    return out


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 8), seed=st.integers(0, 1000))
def test_every_mask_is_whole_in_one_layer_however_they_overlap(count, seed):
    given_masks = blocks(count, seed)
    scene = Scene.of(np.zeros((*SIZE, 3), np.uint8), [row(mask) for mask in given_masks], first=3)
    layers = scene.layers["instance"]
    for number, mask in enumerate(given_masks, start=3):
        hits = [np.array_equal(layer == number, mask == 1) for layer in layers]
        assert hits.count(True) == 1
    assert len(layers) <= count


def test_tasks_have_layers_of_their_own_and_move_together():
    ground, thing = np.ones(SIZE, np.uint8), blocks(1, 0)[0]
    rows = [row(ground, "semantic"), row(thing), row(thing, "panoptic"), row(1 - thing, "panoptic")]
    pixels = np.repeat(thing[..., None] * 255, 3, 2)
    scene = Scene.of(pixels, rows)
    assert {task: len(own) for task, own in scene.layers.items()} == {
        "semantic": 1,
        "instance": 1,
        "panoptic": 1,
    }
    turned = scene.apply(replay([{"step": "rotate", "angle": 90, "expand": True}], SIZE))
    np.testing.assert_array_equal(turned.layers["instance"][0] == 2, turned.pixels[..., 0] > 0)
    np.testing.assert_array_equal(turned.layers["panoptic"][0] == 3, turned.pixels[..., 0] > 0)
    assert turned.density == 1.0


def test_the_density_follows_the_pixels():
    steps = [{"step": "elastic", "sigma": 1.0, "grid": 3, "seed": 1}]
    bent = Scene.of(np.zeros((*SIZE, 3), np.uint8), []).apply(replay(steps, SIZE))
    assert bent.density_map().shape == SIZE
    mirrored = bent.apply(replay([{"step": "flip", "horizontal": True, "vertical": False}], SIZE))
    np.testing.assert_allclose(mirrored.density_map(), bent.density_map()[:, ::-1], rtol=1e-6)


def test_a_mask_of_another_picture_is_named():
    with pytest.raises(ValueError, match="segment 1 has a malformed RLE for 50x40"):
        Scene.of(np.zeros((*SIZE, 3), np.uint8), [row(np.ones((3, 3), np.uint8))])
