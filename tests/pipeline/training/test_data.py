"""Labels find their pictures, whatever kind they are of."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as official
from pycocotools.coco import COCO
from tiny_scenes import scene, write_scenes

from pipeline.engine.run import label
from pipeline.ledger.ledger import write_dataset
from pipeline.storage.storage import Storage
from pipeline.training.categories import joined_table, with_background
from pipeline.training.data import LabelLocation, LabelSource
from pipeline.training.examples import IGNORE, Examples, ExamplesPlan
from schemas.categories import Categories, Category
from schemas.config.job import JobConfig
from schemas.records import ErrorCode, Failure, ImageRecord, Segment, Segmentation

STORAGE = Storage()


def dataset(folder: Path, names: list[str]) -> LabelLocation:
    """A dataset of ours with one segment a picture, and one picture that failed."""
    from pipeline.masks import codec

    mask = np.zeros((64, 80), np.uint8)
    mask[:10] = 1
    counts = codec.encode(mask)
    found = Segmentation(64, 80, (Segment(5, counts, 800, (0, 0, 80, 10), 0.7),))
    rows = [
        (ImageRecord(name, f"/{name}", image_id=i), found) for i, name in enumerate(names, start=1)
    ]
    bad = ImageRecord("bad.png", "/bad.png", image_id=99)
    sky = Category(5, "sky", False, "#3060e0")
    write_dataset(
        str(folder),
        [*rows, (bad, Failure(ErrorCode.TRUNCATED, "cut"))],
        categories=Categories((sky,)),
        task="semantic",
    )
    return LabelLocation(str(folder))


def test_a_folder_of_maps(tmp_path: Path):
    labelled = LabelSource(write_scenes(tmp_path, 3), STORAGE)
    assert [pair.record.file_name for pair in labelled.pairs] == ["0.png", "1.png", "2.png"]
    assert labelled.source.categories is not None
    assert labelled.source.categories[40].color == "#d03020"
    assert labelled.rest("auto") == "ignore"
    data = labelled.read(labelled.pairs[1])
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    np.testing.assert_array_equal(pixels[..., ::-1], scene(1)[0])


def test_a_dataset_of_ours_and_pictures_that_are_named(tmp_path: Path):
    place = write_scenes(tmp_path, 3)
    ours = dataset(tmp_path / "out", ["0.png", "2.png", "gone.png"])
    labelled = LabelSource(LabelLocation(ours.labels, place.pictures), STORAGE)
    assert [pair.record.file_name for pair in labelled.pairs] == ["0.png", "2.png"]
    with pytest.raises(ValueError, match="does not say where its pictures are"):
        LabelSource(ours, STORAGE)


def test_objects_leave_background(tmp_path: Path):
    place = write_scenes(tmp_path, 2)
    mask = np.asfortranarray(scene(0)[1] == 3).astype(np.uint8, order="F")
    code = official.encode(mask)
    data = {
        "images": [
            {"id": 1, "file_name": "0.png", "height": 64, "width": 80},
            {"id": 2, "file_name": "elsewhere.png", "height": 64, "width": 80},
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 40,
                "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
                "area": 1,
                "bbox": [0, 0, 1, 1],
                "iscrowd": 0,
            }
        ],
        "categories": [{"id": 40, "name": "kite", "color": [208, 48, 32]}],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(data))
    labelled = LabelSource(LabelLocation(str(path), place.pictures), STORAGE)
    assert [pair.record.file_name for pair in labelled.pairs] == ["0.png"]
    assert labelled.rest("auto") == "background"
    assert labelled.rest("ignore") == "ignore"
    assert labelled.source.categories is not None
    assert labelled.source.categories[40].color == "#d03020"
    with pytest.raises(ValueError, match="does not say where its pictures are"):
        LabelSource(LabelLocation(str(path)), STORAGE)


def test_what_has_no_categories_is_refused(tmp_path: Path):
    place = write_scenes(tmp_path, 1)
    path = tmp_path / "results.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match="coco-results"):
        LabelSource(LabelLocation(str(path), place.pictures), STORAGE)
    with pytest.raises(ValueError, match="no such file or folder"):
        LabelSource(LabelLocation(str(tmp_path / "none"), place.pictures), STORAGE)


def test_real_objects_leave_background_and_crowds_are_ignored(shared_data: Path):
    folder = shared_data / "coco-photos"
    labelled = LabelSource(LabelLocation(str(folder / "instances.json"), str(folder)), STORAGE)
    assert len(labelled.pairs) == 32
    official_file = COCO(str(folder / "instances.json"))
    plan = ExamplesPlan(
        places=(labelled.place,),
        numbers=tuple((0, i) for i in range(32)),
        names=tuple(pair.record.file_name for pair in labelled.pairs),
        rests=("background",),
        categories=with_background(joined_table([("", labelled.source.categories or {})])),
    )
    ids = [item.id for item in plan.categories]
    examples = Examples(plan, [labelled])
    crowds = 0
    for number, pair in enumerate(labelled.pairs[:12]):
        _, label_map = examples[number]
        rows = official_file.loadAnns(official_file.getAnnIds(imgIds=[pair.key]))
        things = np.zeros(label_map.shape, bool)
        crowd = np.zeros(label_map.shape, bool)
        for row in rows:
            mask = official_file.annToMask(row).astype(bool)
            crowd |= mask & bool(row["iscrowd"])
            things |= mask & (not row["iscrowd"])
        crowds += int((crowd & ~things).sum())
        np.testing.assert_array_equal(label_map == IGNORE, crowd & ~things)
        np.testing.assert_array_equal(label_map == len(ids) - 1, ~crowd & ~things)
        found = {ids[index] for index in np.unique(label_map[things]).tolist()}
        assert found <= {row["category_id"] for row in rows if not row["iscrowd"]}
    assert crowds > 0


def test_splits_and_copies_of_a_labelled_dataset(tmp_path: Path):
    place = write_scenes(tmp_path / "scenes", 6)
    data = {
        "input": {"uri": place.pictures},
        "output": str(tmp_path / "out"),
        "model": {"name": "otsu"},
        "execution": {"inline": True},
        "augment": {"copies": 2},
        "split": {"train": 0.6, "val": 0.4},
    }
    label(JobConfig.parse(data), export=False, report=False)
    labelled = LabelSource(LabelLocation(str(tmp_path / "out")), STORAGE)
    originals = {pair.group: pair for pair in labelled.pairs if not pair.is_copy}
    copies = [pair for pair in labelled.pairs if pair.is_copy]
    assert len(originals) == 6
    assert {pair.split for pair in originals.values()} == {"train", "val"}
    assert len(copies) == 2 * sum(pair.split == "train" for pair in originals.values())
    for pair in copies:
        assert pair.split == originals[pair.group].split == "train"
        encoded = labelled.read(pair)
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        segments = labelled.source.read(pair.key)
        assert pixels.shape[:2] == (segments.height, segments.width)
