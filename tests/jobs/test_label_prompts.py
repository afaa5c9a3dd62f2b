"""A dataset of boxes becomes a dataset of masks: jobs.label --prompts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from tiny_sam import sam_checkpoint
from typer.testing import CliRunner

from jobs.label import app


def label(pictures: Path, prompts: Path, out: Path, model: Path) -> COCO:
    """Runs the job; its COCO export."""
    given = [
        "--input", str(pictures), "--output", str(out), "--model", str(model),
        "--prompts", str(prompts), "--inline", "--quiet", "--no-report",
    ]  # fmt: skip
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    return COCO(str(out / "exports" / "coco" / "instances.json"))


def check_kept(found: COCO, truth: dict[str, Any], names: set[str]) -> None:
    """Every annotation keeps id, picture, category and crowd; masks fit their pictures."""
    images = {each["id"]: each for each in truth["images"] if each["file_name"] in names}
    wanted = {each["id"]: each for each in truth["annotations"] if each["image_id"] in images}
    assert set(found.anns) == set(wanted)
    assert set(found.imgs) == set(images)
    categories = {each["id"]: each["name"] for each in truth["categories"]}
    assert {id_: each["name"] for id_, each in found.cats.items()} == categories
    for id_, one in found.anns.items():
        other = wanted[id_]
        for key in ("image_id", "category_id", "iscrowd"):
            assert one[key] == other[key], (id_, key)
        image = images[one["image_id"]]
        mask = found.annToMask(one)
        assert mask.shape == (image["height"], image["width"])
        assert one["area"] == mask.sum() > 0
        assert one["bbox"] == coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask))).tolist()
        if other["iscrowd"]:
            theirs = coco_mask.frPyObjects(other["segmentation"], *mask.shape)
            np.testing.assert_array_equal(mask, coco_mask.decode(theirs))


def truth_of(shared_data: Path) -> dict[str, Any]:
    return json.loads((shared_data / "coco-photos" / "instances.json").read_text())


def test_three_photos_and_a_crowd(shared_data: Path, tmp_path: Path) -> None:
    truth = truth_of(shared_data)
    crowded = {each["image_id"] for each in truth["annotations"] if each["iscrowd"]}
    names = [each["file_name"] for each in truth["images"] if each["id"] in crowded][:1]
    names += [each["file_name"] for each in truth["images"] if each["id"] not in crowded][:2]
    (tmp_path / "photos").mkdir()
    for name in names:
        shutil.copy(shared_data / "coco-photos" / "images" / name, tmp_path / "photos")
    boxes = [{**each} for each in truth["annotations"]]
    for each in boxes:
        if not each["iscrowd"]:
            del each["segmentation"]  # the box asks
    own = {each["id"] for each in truth["images"] if each["file_name"] in names}
    images = [each for each in truth["images"] if each["id"] in own]
    some = {**truth, "images": images, "annotations": [b for b in boxes if b["image_id"] in own]}
    (tmp_path / "boxes.json").write_text(json.dumps(some))
    out = tmp_path / "out"
    found = label(tmp_path / "photos", tmp_path / "boxes.json", out, sam_checkpoint("sam"))
    check_kept(found, truth, set(names))
    assert any(each["iscrowd"] for each in found.anns.values())
    by_id = {each["id"]: each for each in boxes}
    rows = [
        row for part in (out / "annotations").iterdir() for row in pq.read_table(part).to_pylist()
    ]
    for row in rows:
        if not row["iscrowd"]:
            assert row["prompt_bbox_xywh"] == pytest.approx(by_id[row["source_id"]]["bbox"])
            assert 0 <= row["score"] <= 1


@pytest.mark.slow
def test_all_boxes_of_the_photos(shared_data: Path, tmp_path: Path) -> None:
    truth = truth_of(shared_data)
    folder = shared_data / "coco-photos"
    found = label(
        folder / "images", folder / "instances.json", tmp_path / "out", sam_checkpoint("sam")
    )
    assert len(found.anns) == 288
    check_kept(found, truth, {each["file_name"] for each in truth["images"]})


def nuclei(shared_data: Path, chosen: Sequence[dict[str, Any]], out: Path) -> dict[int, np.ndarray]:
    """Copies pictures and writes one box a nucleus; annotation id → its true mask."""
    out.mkdir()
    masks: dict[int, np.ndarray] = {}
    coco: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    coco["categories"] = [{"id": 1, "name": "nucleus"}]
    for number, each in enumerate(chosen, start=1):
        root = shared_data / "nuclei-dsb2018"
        shutil.copy(root / each["image"], out / f"{number}.png")
        label_map = cv2.imread(str(root / each["label"]), cv2.IMREAD_UNCHANGED)
        assert label_map is not None
        height, width = label_map.shape
        name = {"file_name": f"{number}.png", "width": width, "height": height}
        coco["images"].append({"id": number, **name})
        for value in np.unique(label_map)[1:]:
            mask = (label_map == value).astype(np.uint8)
            id_ = len(masks) + 1
            masks[id_] = mask
            box = cv2.boundingRect(mask)
            coco["annotations"].append(
                {"id": id_, "image_id": number, "category_id": 1, "bbox": list(box)}
            )
    (out.parent / "boxes.json").write_text(json.dumps(coco))
    return masks


@pytest.mark.parametrize(("sides", "least"), [((0, 256), 0.6), ((257, 360), 0.7)])
def test_real_weights_outline_nuclei(
    shared_data: Path, tmp_path: Path, sides: tuple[int, int], least: float
) -> None:
    index = json.loads((shared_data / "nuclei-dsb2018" / "index.json").read_text())["images"]
    chosen = [
        each
        for each in index
        if (each["split"], each["kind"]) == ("test", "fluorescence")
        and sides[0] <= max(each["height"], each["width"]) <= sides[1]
    ][:4]
    assert len(chosen) == 4
    truth = nuclei(shared_data, chosen, tmp_path / "pictures")
    found = label(
        tmp_path / "pictures",
        tmp_path / "boxes.json",
        tmp_path / "out",
        shared_data / "weights" / "sam-nuclei-tiny",
    )
    assert set(found.anns) <= set(truth)
    assert len(found.anns) >= 0.98 * len(truth)  # SAM has no mask for the others
    per_picture: dict[int, list[float]] = {}
    for id_, one in found.anns.items():
        mask, other = found.annToMask(one) > 0, truth[id_] > 0
        iou = float((mask & other).sum() / (mask | other).sum())
        per_picture.setdefault(one["image_id"], []).append(iou)
    mean = float(np.mean([np.mean(values) for values in per_picture.values()]))
    assert mean >= least, mean
