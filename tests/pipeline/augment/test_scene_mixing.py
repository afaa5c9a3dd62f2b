import numpy as np

from pipeline.augment.scene import Scene, draw_mosaic, draw_paste, mosaic, paste
from pipeline.masks import codec
from schemas.config.augment_steps import CopyPaste, Mosaic

SIZE = (60, 80)


def scene(box, value, *, first, size=SIZE, tasks=("instance",)):
    """One thing of a grey of its own on black; the rest is another segment in the other tasks."""
    x, y, w, h = box
    mask = np.zeros(size, np.uint8)
    mask[y : y + h, x : x + w] = 1
    rows = []
    for task in tasks:
        rows.append({"task": task, "rle": {"counts": codec.encode(mask).decode()}})
        if task != "instance":
            rows.append({"task": task, "rle": {"counts": codec.encode(1 - mask).decode()}})
    return Scene.of(np.repeat(mask[..., None] * np.uint8(value), 3, 2), rows, first=first)


def test_pasted_pixels_and_labels_agree_and_cover_what_was_there():
    below, above = scene((10, 10, 40, 40), 100, first=1), scene((5, 5, 20, 10), 200, first=2)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        step = CopyPaste(step="copy_paste", scale=(1.0, 1.0))
        drawn = draw_paste(rng, step, SIZE, [(1, (5, 5, 20, 10))])
        mixed = paste(below, above, drawn, [2])
        (layer,) = mixed.layers["instance"]
        np.testing.assert_array_equal(layer == 2, mixed.pixels[..., 0] > 150)
        np.testing.assert_array_equal(layer == 1, mixed.pixels[..., 0] == 100)
        assert (layer == 2).any()


def test_what_is_pasted_larger_stands_for_as_many_pixels_as_it_had():
    below, above = scene((0, 0, 80, 60), 100, first=1), scene((5, 5, 20, 10), 200, first=2)
    drawn = {"box_xywh": [5, 5, 20, 10], "size_hw": [20, 40], "at_xy": [10, 10]}
    mixed = paste(below, above, drawn, [2])
    (layer,) = mixed.layers["instance"]
    assert (layer == 2).sum() == 800
    np.testing.assert_allclose(mixed.density_map()[layer == 2], 0.25)
    np.testing.assert_allclose(mixed.density_map()[layer == 1], 1)


def test_every_task_gets_the_pasted_pixels():
    tasks = ("semantic", "instance", "panoptic")
    below = scene((10, 10, 40, 40), 100, first=1, tasks=tasks)
    above = scene((5, 5, 20, 10), 200, first=6, tasks=tasks)
    drawn = {"box_xywh": [5, 5, 20, 10], "size_hw": [10, 20], "at_xy": [30, 30]}
    mixed = paste(below, above, drawn, [8])  # semantic 6 7, instance 8, panoptic 9 10
    there = mixed.pixels[..., 0] == 200
    for task, label in (("semantic", 6), ("instance", 8), ("panoptic", 9)):
        np.testing.assert_array_equal(mixed.layers[task][0] == label, there)


def test_a_patch_may_hang_over_any_edge():
    below, above = scene((0, 0, 80, 60), 100, first=1), scene((5, 5, 20, 10), 200, first=2)
    for at in ([-15, -5], [70, 55], [-15, 55], [70, -5], [200, 200]):
        drawn = {"box_xywh": [5, 5, 20, 10], "size_hw": [10, 20], "at_xy": at}
        mixed = paste(below, above, drawn, [2])
        (layer,) = mixed.layers["instance"]
        np.testing.assert_array_equal(layer == 2, mixed.pixels[..., 0] == 200)


def test_a_mosaic_shows_four_pictures_with_their_labels():
    sizes = [SIZE, (30, 30), (200, 100), (64, 512)]
    for seed in range(5):
        scenes = [
            scene((0, 0, size[1], size[0]), 50 * (i + 1), first=i + 1, size=size)
            for i, size in enumerate(sizes)
        ]
        rng = np.random.default_rng(seed)
        drawn, order = draw_mosaic(rng, Mosaic(step="mosaic"), sizes)
        mixed = mosaic([scenes[i] for i in order], drawn, SIZE)
        (layer,) = mixed.layers["instance"]
        np.testing.assert_array_equal(layer * 50, mixed.pixels[..., 0])
        assert set(np.unique(layer)) == {1, 2, 3, 4}
        x, y = drawn["center_xy"]
        assert len(np.unique(layer[:y, :x])) == len(np.unique(layer[y:, x:])) == 1
        assert mixed.size_hw == SIZE
