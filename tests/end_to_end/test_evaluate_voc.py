"""Labelled pixels of PASCAL VOC's categories against COCO's objects, as a user compares them."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from typer.testing import CliRunner

from jobs.evaluate import app
from jobs.label import app as label_app
from pipeline.evaluation.evaluate import evaluate

VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
OF_COCO = {
    "airplane": "aeroplane",
    "couch": "sofa",
    "dining table": "diningtable",
    "motorcycle": "motorbike",
    "potted plant": "pottedplant",
    "tv": "tvmonitor",
}
CROWD = 255


def painted(data, image):
    """H×W numbers of VOC, `CROWD` where only a crowd is; the larger object lies below."""
    height, width = image["height"], image["width"]
    names = {item["id"]: item["name"] for item in data["categories"]}
    own = [item for item in data["annotations"] if item["image_id"] == image["id"]]
    shapes = []
    for item in own:
        rles = coco_mask.frPyObjects(item["segmentation"], height, width)
        rle = coco_mask.merge(rles) if isinstance(rles, list) else rles
        shapes.append(coco_mask.decode(rle) > 0)
    labels = np.zeros((height, width), np.uint8)
    order = sorted(range(len(own)), key=lambda i: (not own[i]["iscrowd"], -shapes[i].sum()))
    for i in order:
        name = OF_COCO.get(names[own[i]["category_id"]], names[own[i]["category_id"]])
        number = VOC.index(name) if name in VOC else 0
        labels[shapes[i]] = CROWD if own[i]["iscrowd"] else number
    return labels


def test_a_folder_of_numbers_with_a_map(shared_data, tmp_path):
    data = json.loads((shared_data / "coco-photos" / "instances.json").read_text())
    # Those with a crowd, and some more.
    crowded = {item["image_id"] for item in data["annotations"] if item["iscrowd"]}
    images = [item for item in data["images"] if item["id"] in crowded] + data["images"][:5]
    data["images"] = list({item["id"]: item for item in images}.values())
    kept = {item["id"] for item in data["images"]}
    data["annotations"] = [item for item in data["annotations"] if item["image_id"] in kept]
    (tmp_path / "truth.json").write_text(json.dumps(data))
    (tmp_path / "map.json").write_text(json.dumps({str(i): name for i, name in enumerate(VOC)}))
    (tmp_path / "found").mkdir()
    confusion = np.zeros((21, 21), np.int64)
    for image in data["images"]:
        truth = painted(data, image)
        found = np.roll(np.where(truth == CROWD, 15, truth), (9, -14), (0, 1))
        cv2.imwrite(str(tmp_path / "found" / image["file_name"].replace(".jpg", ".png")), found)
        known = truth != CROWD
        np.add.at(confusion, (truth[known], found[known]), 1)

    words = ["--predictions", tmp_path / "found", "--ground-truth", tmp_path / "truth.json"]
    words += ["--category-map", tmp_path / "map.json", "--json", tmp_path / "figures.json"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "figures.json").read_text())
    right, true, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    union = true + predicted - right
    overall = result["overall"]["miou"]
    assert overall["pixels"] == confusion.sum()
    assert overall["pixel_accuracy"] == right.sum() / confusion.sum()
    present = true > 0
    assert overall["mean_accuracy"] == pytest.approx((right / np.maximum(true, 1))[present].mean())
    assert overall["mean_iou_present"] == pytest.approx((right[present] / union[present]).mean())
    assert overall["mean_iou"] == pytest.approx((right[union > 0] / union[union > 0]).mean())
    weights = true / true.sum()
    assert overall["frequency_weighted_iou"] == pytest.approx(
        (weights * right / np.maximum(union, 1)).sum()
    )
    assert overall["categories_present"] == present.sum()
    named = {row["name"]: row["miou"] for row in result["per_category"]}
    for number in np.flatnonzero(present):
        name = {voc: coco for coco, voc in OF_COCO.items()}.get(VOC[number], VOC[number])
        assert named[name]["recall"] == right[number] / true[number]
        assert named[name]["true_pixels"] == true[number]
    (top, *_) = result["confusion"]["top"]
    assert top["pixels"] == (confusion - np.diag(right)).max()
    assert f"{top['pixels']:,}" in done.stdout
    assert result["settings"]["unknown_categories"] == {"pixels": "background"}


@pytest.mark.slow
def test_real_weights_get_the_figures_of_their_own_page(shared_data, tmp_path):
    """Of the half width; `test_deeplab_voc.py` counts those of the full one itself."""
    weights = shared_data / "weights" / "deeplabv3-mobilenetv2-0.5-voc"
    photos = shared_data / "coco-photos"
    words = ["--input", photos / "images", "--output", tmp_path / "out", "--model", weights]
    words += ["--task", "semantic", "--inline", "--no-export", "--no-report", "-q"]
    done = CliRunner().invoke(label_app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    result = evaluate(dataset=str(tmp_path / "out"), ground_truth=str(photos / "instances.json"))
    figures = result["overall"]["miou"]
    assert figures["categories_present"] == 18
    assert figures["pixel_accuracy"] == pytest.approx(0.930, abs=0.003)
    assert figures["mean_iou_present"] == pytest.approx(0.395, abs=0.003)
