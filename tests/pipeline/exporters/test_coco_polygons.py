"""Polygons for readers that know no RLE, and the export that carries its pictures."""

from __future__ import annotations

import json
import logging
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from small_datasets import with_pictures
from torchvision.datasets import CocoDetection

from pipeline.engine.run import label
from pipeline.exporters import check_exports, export, export_all
from pipeline.ledger.ledger import write_dataset
from pipeline.masks import codec
from schemas.categories import Categories, Category
from schemas.config.export import ExportConfig
from schemas.config.job import JobConfig
from schemas.records import ImageRecord, Segment, Segmentation

THING = Categories((Category(1, "cell", True, "#1f9e89"),))


def blobs() -> list[np.ndarray]:
    """A ring of two holes, a blob of three parts, a pixel, and a crowd."""
    masks = [np.zeros((120, 160), np.uint8) for _ in range(4)]
    cv2.ellipse(masks[0], (60, 60), (50, 40), 20, 0, 360, 1, -1)
    cv2.circle(masks[0], (45, 60), 9, 0, -1)
    cv2.circle(masks[0], (75, 65), 12, 0, -1)
    for x in (20, 70, 130):
        cv2.circle(masks[1], (x, 100), 8, 1, -1)
    masks[2][5, 150] = 1
    masks[3][0:30, 0:20] = 1
    return masks


def dataset(folder: Path):
    found = []
    for place, mask in enumerate(blobs()):
        (region,) = codec.regions(mask)
        part = Segment(1, region.counts, region.area, region.bbox_xywh, 0.5)
        found.append(replace(part, iscrowd=place == 3))
    images = [(ImageRecord("a.png", "", image_id=1), Segmentation(120, 160, tuple(found)))]
    return write_dataset(str(folder), images, categories=THING, task="instance")


def masks_of(path: Path) -> list[np.ndarray]:
    coco = COCO(str(path))
    return [coco.annToMask(coco.anns[key]) for key in sorted(coco.anns)]


def test_at_tolerance_0_every_mask_comes_back_and_crowds_keep_their_rle(tmp_path):
    export(dataset(tmp_path / "d"), "coco-polygons", str(tmp_path / "out"))
    path = tmp_path / "out" / "instances_polygons.json"
    for found, due in zip(masks_of(path), blobs(), strict=True):
        assert np.array_equal(found, due)
    rows = json.loads(path.read_bytes())["annotations"]
    assert [len(row["segmentation"]) for row in rows[:3]] == [1, 3, 1]
    assert rows[2]["segmentation"] == [[150, 5, 150, 6, 151, 6, 151, 5]]
    assert rows[3]["iscrowd"] == 1
    assert rows[3]["segmentation"].keys() == {"size", "counts"}


def test_the_log_says_what_a_tolerance_cost(tmp_path, caplog):
    ledger = dataset(tmp_path / "d")
    with caplog.at_level(logging.WARNING):
        export(ledger, "coco-polygons", str(tmp_path / "out"), config=ExportConfig(tolerance=2))
    (said,) = [r.getMessage() for r in caplog.records if "IoU" in r.getMessage()]
    found = masks_of(tmp_path / "out" / "instances_polygons.json")
    ious = [
        np.count_nonzero(a & b) / np.count_nonzero(a | b)
        for a, b in zip(found[:3], blobs()[:3], strict=True)
    ]
    assert 0.8 < min(ious) < 1
    assert said == (
        f"coco-polygons: 3 masks as polygons: mean IoU with the masks {np.mean(ious):.4f}, "
        f"worst {min(ious):.4f}"
    )


def turned_photo(path: Path) -> None:
    """240×160 upright, stored lying; a bright disc near the upright picture's top left."""
    pixels = np.full((240, 160, 3), 20, np.uint8)
    cv2.circle(pixels, (40, 50), 15, (230, 230, 230), -1)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    picture.save(path, exif=exif, quality=95)


def labelled(folder: Path, formats: list[str]):
    data = {
        "input": {"uri": str(folder / "in")},
        "output": str(folder / "out"),
        "model": {"name": "otsu"},
        "execution": {"inline": True},
        "export": {"formats": formats},
    }
    return label(JobConfig.parse(data), report=False)


def test_turned_photos_pairs_of_one_stem_and_members_of_tars_work_in_torchvision(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    turned_photo(photos / "rot6.jpg")
    for name in ("pair.jpg", "pair.png", "owl.v2.tif"):
        pixels = np.full((60, 80, 3), 15, np.uint8)
        cv2.circle(pixels, (30, 30), 10, (240, 240, 240), -1)
        Image.fromarray(pixels).save(photos / name)
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "s.tar", "w") as tar:
        for path in sorted(photos.iterdir()):
            # one key a sample: webdataset's rule is the first dot
            tar.add(path, arcname=path.name.replace("owl.v2", "owl").replace("pair.png", "q.png"))
    result = labelled(tmp_path, ["coco-instances", "coco-flat"])
    out = tmp_path / "out" / "exports" / "coco-flat"
    found = CocoDetection(str(out / "images"), str(out / "instances.json"))
    assert len(found) == result.manifest.counts["ok"] == 4
    for (picture, targets), number in zip(found, found.ids, strict=True):
        light = np.array(picture.convert("L")) > 128
        mask = np.zeros(light.shape, bool)
        for target in targets:
            mask |= found.coco.annToMask(target).astype(bool)
        assert np.count_nonzero(mask & light) / np.count_nonzero(mask | light) > 0.9
        entry = found.coco.imgs[number]
        assert entry["source_file_name"].startswith("s.tar/")
        assert "exif_orientation" not in entry  # the picture here is upright
        with Image.open(out / "images" / entry["file_name"]) as opened:
            assert opened.getexif().get(0x0112, 1) == 1
    (source,) = [e for e in found.coco.imgs.values() if e["source_file_name"].endswith("q.png")]
    assert (out / "images" / source["file_name"]).read_bytes() == (photos / "pair.png").read_bytes()
    instances = json.loads((tmp_path / "out/exports/coco/instances.json").read_bytes())
    turned = {e["file_name"]: e.get("exif_orientation") for e in instances["images"]}
    assert turned == {"s.tar/rot6.jpg": 6, "s.tar/pair.jpg": None, "s.tar/q.png": None,
                      "s.tar/owl.tif": None}  # fmt: skip


def test_entries_may_name_the_file_that_holds_the_bytes(tmp_path):
    names = {"a.jpg": 1, "sub/s.tar/b.jpg": 2, "t.parquet/3": 3}
    images = [(ImageRecord(n, "", image_id=k), Segmentation(4, 6)) for n, k in names.items()]
    ledger = write_dataset(str(tmp_path / "d"), images, categories=THING, task="instance")
    ledger = type(ledger)(ledger.uri, replace(ledger.manifest, input="s3://b/in"), ledger.storage)
    export_all(ledger, config=ExportConfig(source_uri=True))
    data = json.loads((tmp_path / "d/exports/coco/instances.json").read_bytes())
    assert [item["source_uri"] for item in data["images"]] == [
        "s3://b/in/a.jpg",
        "s3://b/in/sub/s.tar",
        "s3://b/in/t.parquet",
    ]
    assert check_exports(ledger, lambda *problem: pytest.fail(str(problem)))


def test_an_empty_image_has_its_picture_and_no_annotation(tmp_path):
    images = [(ImageRecord("a.jpg", "", image_id=1), Segmentation(24, 31))]
    ledger = write_dataset(str(tmp_path / "d"), images, categories=THING, task="instance")
    ledger = with_pictures(ledger, {"a.jpg": 1})
    export(ledger, "coco-flat", str(tmp_path / "out"))
    assert len(list((tmp_path / "out" / "images").iterdir())) == 1
    assert json.loads((tmp_path / "out/instances.json").read_bytes())["annotations"] == []
