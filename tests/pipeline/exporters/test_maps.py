"""Maps in other data sets' numbers, held against their published tables."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from pipeline.exporters import export
from pipeline.exporters.table import make_exporter
from pipeline.ledger.ledger import write_dataset
from pipeline.masks import codec
from schemas.categories import Categories, Category
from schemas.records import ImageRecord, Segment, Segmentation

VOC = {  # VOC2012's devkit, VOCinit.m: classes in their order, from 1
    "aeroplane": 1, "bicycle": 2, "bird": 3, "boat": 4, "bottle": 5, "bus": 6, "car": 7, "cat": 8,
    "chair": 9, "cow": 10, "diningtable": 11, "dog": 12, "horse": 13, "motorbike": 14,
    "person": 15, "pottedplant": 16, "sheep": 17, "sofa": 18, "train": 19, "tvmonitor": 20,
}  # fmt: skip
CITYSCAPES = {  # cityscapesScripts' labels.py: label ids of the classes that are evaluated
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17,
    "traffic light": 19, "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23,
    "person": 24, "rider": 25, "car": 26, "truck": 27, "bus": 28, "train": 31, "motorcycle": 32,
    "bicycle": 33,
}  # fmt: skip
ADE20K = {"wall": 1, "building": 2, "sky": 3, "floor": 4, "tree": 5, "person": 13, "car": 21,
          "flag": 150}  # fmt: skip


def voc_color(index: int) -> tuple[int, ...]:
    """VOClabelcolormap: bits of the index, spread over red, green and blue from the highest."""
    rgb = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            rgb[channel] |= (index >> channel & 1) << (7 - place)
        index >>= 3
    return tuple(rgb)


def dataset(folder, names):
    """An image of columns: a category each, the last column without any."""
    categories = Categories(
        tuple(Category(40 + k, name, True, "#112233") for k, name in enumerate(names))
    )
    labels = np.repeat(np.arange(1, len(names) + 2)[None], 3, axis=0)
    labels[:, -1] = 0
    found = tuple(
        Segment(39 + r.label, r.counts, r.area, r.bbox_xywh) for r in codec.regions(labels)
    )
    images = [(ImageRecord("a.jpg", "", image_id=1), Segmentation(*labels.shape, found))]
    return write_dataset(str(folder), images, categories=categories, task="semantic")


@pytest.mark.parametrize(
    ("name", "numbers", "file", "rest", "unlabelled"),
    [
        ("voc", VOC, "a.png", 0, 255),
        ("cityscapes", CITYSCAPES, "a_gtFine_labelIds.png", 0, 0),
        ("ade20k", ADE20K, "a.png", 0, 0),
    ],
)
def test_numbers_are_the_published_ones(name, numbers, file, rest, unlabelled, tmp_path):
    ledger = dataset(tmp_path / "d", [*numbers, "zebra crossing of ours"])
    export(ledger, name, str(tmp_path / "out"))
    with Image.open(tmp_path / "out" / file) as picture:
        assert picture.mode == "P"
        assert np.array(picture)[0].tolist() == [*numbers.values(), rest, unlabelled]
        colors = np.array(picture.convert("RGB"))[0]
    assert np.count_nonzero(colors.max(axis=1) > 40) >= len(numbers)  # not black in a viewer
    if name == "voc":
        assert [tuple(c) for c in colors[:20].tolist()] == [voc_color(k) for k in range(1, 21)]
        assert tuple(colors[-1].tolist()) == voc_color(255) == (224, 224, 192)
    key = json.loads((tmp_path / "out" / "categories.json").read_bytes())
    assert [item["known"] for item in key["categories"]] == [True] * len(numbers) + [False]


def test_coco_names_are_vocs_by_their_synonyms(tmp_path):
    ledger = dataset(tmp_path / "d", ["airplane", "couch", "tv", "motorcycle", "dining table"])
    export(ledger, "voc", str(tmp_path / "out"))
    pixels = np.array(Image.open(tmp_path / "out" / "a.png"))[0]
    assert pixels.tolist() == [1, 18, 20, 14, 11, 255]


def test_a_dataset_of_other_things_is_refused(tmp_path):
    ledger = dataset(tmp_path / "d", ["nucleus"])
    with pytest.raises(ValueError, match=r"format voc: no category of this dataset is one of its"):
        export(ledger, "voc", str(tmp_path / "out"))
    assert not list((tmp_path / "out").glob("*.png"))


@pytest.mark.parametrize("name", ["voc", "cityscapes", "ade20k"])
def test_the_tables_are_whole(name):
    exporter = make_exporter(name)
    count = {"voc": 20, "cityscapes": 19, "ade20k": 150}[name]
    rows = [r for r in exporter._rows() if not r.get("is_background")]  # pyright: ignore
    assert len({exporter.number(row["id"]) for row in rows}) == count  # pyright: ignore
