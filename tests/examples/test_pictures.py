"""The demo's input and its truth, read back with the usual readers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data
from pycocotools.coco import COCO

from examples.pictures import PHOTOS, gather
from examples.truth import write_truth


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    truth = gather(folder / "input")
    count = write_truth(folder / "truth", truth, category="nucleus", about="test")
    return folder, truth, count


def test_every_picture_can_be_read_and_fits_its_truth(demo):
    folder, truth, _ = demo
    names = [
        path.relative_to(folder / "input").as_posix()
        for path in (folder / "input").rglob("*")
        if path.is_file()
    ]
    assert len(names) == 4 + len(PHOTOS) + 8
    assert set(truth) == {name for name in names if not name.startswith("tissue/")}
    for name in names:
        pixels = cv2.imread(str(folder / "input" / name), cv2.IMREAD_UNCHANGED)
        assert pixels is not None, name
        if name in truth:
            assert pixels.shape[:2] == truth[name].shape
        assert pixels.dtype == (np.uint16 if name.endswith(".tif") else np.uint8)


def test_tiles_put_together_are_the_tissue_picture(demo):
    folder, _, _ = demo
    whole = np.zeros((512, 512, 3), np.uint8)
    for y in (0, 256):
        for x in (0, 256):
            path = folder / "input" / "tissue" / f"ihc-y{y:03d}-x{x:03d}.png"
            whole[y : y + 256, x : x + 256] = cv2.imread(str(path))[..., ::-1]
    assert np.array_equal(whole, skimage.data.immunohistochemistry())


def test_pycocotools_reads_the_truth_back(demo):
    folder, truth, count = demo
    coco = COCO(folder / "truth" / "instances.json")
    assert len(coco.imgs) == len(truth)
    assert len(coco.anns) == count > 150
    assert min(coco.anns) >= 1
    for image in coco.imgs.values():
        label_map = truth[image["file_name"]]
        painted = np.zeros_like(label_map)
        for label, annotation in enumerate(coco.imgToAnns[image["id"]], start=1):
            mask = coco.annToMask(annotation)
            assert mask.sum() == annotation["area"]
            assert cv2.boundingRect(mask) == tuple(annotation["bbox"])
            painted[mask > 0] = label
        assert np.array_equal(painted, label_map)


def test_photographs_are_known_to_be_empty(demo):
    _, truth, _ = demo
    assert all(
        label_map.any() == name.startswith("simulated/") for name, label_map in truth.items()
    )


def test_label_pngs_hold_the_label_maps(demo):
    folder, truth, _ = demo
    for name, label_map in truth.items():
        path = (folder / "truth" / "labels" / name).with_suffix(".png")
        read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert read.dtype == np.uint16
        assert np.array_equal(read, label_map)
