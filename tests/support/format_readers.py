"""Readers of the formats: the official tool where it is light, else its documented rules."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas
import shapely
import webdataset
import yaml
from datasets import load_dataset
from PIL import Image
from pycocotools.coco import COCO
from small_datasets import (
    BACKGROUND,
    CATEGORIES,
    HEIGHT,
    NAMES,
    PICTURE_NAMES,
    SKY,
    WIDTH,
)
from torchvision.datasets import CocoDetection

from pipeline.exporters.png_folder import PngNames
from pipeline.masks import codec


@dataclass(frozen=True, slots=True)
class Read:
    """What a format's reader found: per image, category id → union of its masks."""

    images: set[int]
    unions: dict[tuple[int, int], np.ndarray]


def read_instances(out: Path) -> Read:
    coco = COCO(str(out / "instances.json"))
    return Read(set(coco.imgs), _unions(coco, coco.anns.values()))


def read_results(out: Path) -> Read:
    truth = COCO()
    path = out / "results.json"
    rows: Any = json.loads(path.read_bytes())
    truth.dataset = {
        "images": [{"id": n, "height": HEIGHT, "width": WIDTH} for n in NAMES.values()],
        "categories": [{"id": item.id, "name": item.name} for item in CATEGORIES if item.isthing],
        "annotations": [],
    }
    truth.createIndex()
    found: Any = truth.loadRes(str(path))
    assert len(found.anns) == len(rows)
    return Read(set(NAMES.values()), _unions(found, found.anns.values()))


def _unions(coco: Any, annotations: Any) -> dict[tuple[int, int], np.ndarray]:
    unions: dict[tuple[int, int], np.ndarray] = {}
    for item in annotations:
        key = (item["image_id"], item["category_id"])
        unions[key] = unions.get(key, 0) | coco.annToMask(item)
    return unions


def read_panoptic(out: Path) -> Read:
    data = json.loads((out / "panoptic.json").read_bytes())
    unions = {}
    for item in data["annotations"]:
        ids = _ids(Image.open(out / "panoptic" / item["file_name"]))
        for segment in item["segments_info"]:
            key = (item["image_id"], segment["category_id"])
            unions[key] = unions.get(key, 0) | (ids == segment["id"]).astype(np.uint8)
    return Read({item["id"] for item in data["images"]}, unions)


def _ids(picture: Image.Image) -> np.ndarray:
    rgb = np.array(picture).astype(np.uint32)
    return rgb[..., 0] + 256 * rgb[..., 1] + 256**2 * rgb[..., 2]


def read_semantic(out: Path) -> Read:
    key = json.loads((out / "categories.json").read_bytes())
    unions, names = {}, PngNames(NAMES)
    for name, number in NAMES.items():
        pixels = np.array(Image.open(out / names[name]))
        for item in key["categories"]:
            mask = (pixels == item["pixel"]).astype(np.uint8)
            if mask.any():
                unions[number, item["id"]] = mask
    return Read(set(NAMES.values()), unions)


def read_polygons(out: Path) -> Read:
    coco = COCO(str(out / "instances_polygons.json"))
    return Read(set(coco.imgs), _unions(coco, coco.anns.values()))


def read_flat(out: Path) -> Read:
    """With torchvision, which opens `root`/`file_name`."""
    found = CocoDetection(str(out / "images"), str(out / "instances.json"))
    for number, (picture, _) in zip(found.ids, found, strict=True):
        entry = found.coco.imgs[number]
        assert picture.size == (entry["width"], entry["height"])
    assert not {"/", "\\"} & {*"".join(item["file_name"] for item in found.coco.imgs.values())}
    return Read(set(found.ids), _unions(found.coco, found.coco.anns.values()))


def read_csv(out: Path) -> Read:
    """With pandas; images without segments have no line."""
    table = pandas.read_csv(out / "segments.csv", keep_default_na=False, na_values=[""])
    unions: dict[tuple[int, int], np.ndarray] = {}
    for row in table.to_dict("records"):
        size = row["height"], row["width"]
        mask = codec.decode(row["rle_counts"], *size)
        assert mask.sum() == row["area"]
        box = codec.bbox_xywh(row["rle_counts"], *size)
        assert box == tuple(row[f"bbox_{key}"] for key in "xywh")
        key = (row["image_id"], row["category_id"])
        unions[key] = unions.get(key, 0) | mask
    return Read({*table["image_id"].tolist()}, unions)


def read_label_studio(out: Path) -> Read:
    """After `decode_rle` of label_studio_sdk's converter: RGBA bytes, row by row."""
    names = {item.name: item.id for item in CATEGORIES}
    config = ElementTree.parse(out / "label_config.xml")
    assert {item.get("value") for item in config.iter("Label")} == names.keys()
    images, unions = set(), {}
    for task in json.loads((out / "tasks.json").read_bytes()):
        images.add(task["id"])
        (prediction,) = task["predictions"]
        for item in prediction["result"]:
            size = item["original_height"], item["original_width"]
            rgba = decode_brush(item["value"]["rle"]).reshape(*size, 4)
            assert (rgba == rgba[..., :1]).all()
            (label,) = item["value"]["brushlabels"]
            key = (task["id"], names[label])
            unions[key] = unions.get(key, 0) | (rgba[..., 3] > 0).astype(np.uint8)
    return Read(images, unions)


def decode_brush(code: list[int]) -> np.ndarray:
    """thi.ng's rle-pack as Label Studio reads it."""
    bits = "".join(f"{byte:08b}" for byte in code)
    place = 0

    def take(size: int) -> int:
        nonlocal place
        place += size
        return int(bits[place - size : place], 2)

    out = np.zeros(take(32), np.uint8)
    word = take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    i = 0
    while i < len(out):
        repeated = take(1)
        j = i + 1 + take(sizes[take(2)])
        out[i:j] = take(word) if repeated else [take(word) for _ in range(i, j)]
        i = j
    return out


def read_cvat(out: Path) -> Read:
    """After CVAT's documentation of its XML: runs in the box, row by row, zeros first."""
    names = {item.name: item.id for item in CATEGORIES}
    numbers = {**NAMES, **PICTURE_NAMES}
    with zipfile.ZipFile(out / "annotations.zip") as archive:
        root = ElementTree.fromstring(archive.read("annotations.xml"))
    assert root.findtext("version") == "1.1"
    assert {item.findtext("name") for item in root.iter("label")} == names.keys()
    images, unions = set(), {}
    for image in root.iter("image"):
        number = numbers[image.attrib["name"]]
        images.add(number)
        for mask in image.iter("mask"):
            x, y, w, h = (int(mask.attrib[k]) for k in ("left", "top", "width", "height"))
            runs = [int(text) for text in mask.attrib["rle"].split(",")]
            flat = np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8)
            whole = np.zeros((int(image.attrib["height"]), int(image.attrib["width"])), np.uint8)
            whole[y : y + h, x : x + w] = flat.reshape(h, w)
            key = (number, names[mask.attrib["label"]])
            unions[key] = unions.get(key, 0) | whole
    return Read(images, unions)


def read_geojson(out: Path) -> Read:
    """With shapely: every shape is valid and covers the centres of the mask's pixels."""
    images, unions = set(), {}
    for path in out.glob("*.geojson"):
        data = json.loads(path.read_bytes())
        images.add(data["image_id"])
        y, x = np.mgrid[: data["height"], : data["width"]] + 0.5
        for feature in data["features"]:
            shape: Any = shapely.geometry.shape(feature["geometry"])
            assert shapely.is_valid(shape), shapely.is_valid_reason(shape)
            assert shape.area == feature["properties"]["area"]
            assert all(part.exterior.is_ccw for part in getattr(shape, "geoms", [shape]))
            mask = shapely.contains_xy(shape, x, y).astype(np.uint8)
            key = (data["image_id"], feature["properties"]["category_id"])
            unions[key] = unions.get(key, 0) | mask
    return Read(images, unions)


def read_webdataset(out: Path) -> Read:
    """With webdataset, which wants a sample's members side by side."""
    index = json.loads((out / "index.json").read_bytes())
    urls = [f"file:{out / item['name']}" for item in index["shards"]]
    images, unions = set(), {}
    samples: Any = webdataset.WebDataset(urls, shardshuffle=False) if urls else ()
    for sample in samples:
        about = json.loads(sample["json"])
        picture = Image.open(io.BytesIO(sample["png"]))
        assert picture.size == (about["width"], about["height"])
        images.add(about["image_id"])
        ids = _ids(Image.open(io.BytesIO(sample["segments.png"])))
        for item in about["segments"]:
            mask = codec.decode(item["rle"]["counts"], *item["rle"]["size"])
            assert np.array_equal(mask, ids == item["segment_id"])
            key = (about["image_id"], item["category_id"])
            unions[key] = unions.get(key, 0) | mask
    return Read(images, unions)


def read_hf(out: Path) -> Read:
    """With datasets, from the folder and its card."""
    images, unions = set(), {}
    with tempfile.TemporaryDirectory() as cache:
        rows: Any = load_dataset(str(out), cache_dir=cache, split="train")
        names = rows.features["segments"].feature["category"].names
        ids = {item.name: item.id for item in CATEGORIES}
        for row in rows:
            assert row["image"].size == (row["width"], row["height"])
            images.add(row["image_id"])
            painted = _ids(row["segments_png"])
            for item in row["segments"]:
                mask = codec.decode(item["rle"]["counts"], *item["rle"]["size"])
                assert np.array_equal(mask, painted == item["segment_id"])
                assert ids[names[item["category"]]] == item["category_id"]
                key = (row["image_id"], item["category_id"])
                unions[key] = unions.get(key, 0) | mask
    return Read(images, unions)


def read_map(suffix: str, known: dict[int, int]) -> Any:
    """With Pillow, which leaves palette PNGs their numbers; `known`: number → our category."""

    def read(out: Path) -> Read:
        unions, names = {}, PngNames(NAMES)
        for name, number in NAMES.items():
            path = out / (names[name].removesuffix(".png") + suffix)
            with Image.open(path) as picture:
                assert picture.mode == "P"
                pixels = np.array(picture)
            for value, category in known.items():
                if (mask := (pixels == value).astype(np.uint8)).any():
                    unions[number, category] = mask
        return Read(set(NAMES.values()), unions)

    return read


def read_overlays(out: Path) -> Read:
    """By their ids; what they show is tested elsewhere."""
    for path in out.glob("*.jpg"):
        with Image.open(path) as picture:
            assert picture.width >= WIDTH
    return Read({int(path.stem.rpartition("-")[2]) for path in out.glob("*.jpg")}, {})


def read_yolo(out: Path, mask_of: Any) -> Read:
    """After ultralytics' documentation: data.yaml names folders beside it, `images` in a path
    becomes `labels` and the suffix .txt; a line is a category and numbers divided by the size."""
    data = yaml.safe_load((out / "data.yaml").read_text("utf-8"))
    ids = {item.name: item.id for item in CATEGORIES if item.isthing}
    images, unions = set(), {}
    assert data["train"] == data["val"] == "images/train"
    for picture in (out / data["train"]).iterdir():
        number = int(picture.stem.rpartition("-")[2])
        images.add(number)
        with Image.open(picture) as opened:
            size = opened.height, opened.width
        label = Path(str(picture.parent).replace("images", "labels"), picture.stem + ".txt")
        for line in label.read_text().splitlines():
            index, *values = line.split(" ")
            points = np.array(values, np.float64).reshape(-1, 2) * size[::-1]
            key = (number, ids[data["names"][int(index)]])
            unions[key] = unions.get(key, 0) | mask_of(points, size)
    return Read(images, unions)


def drawn_polygon(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    assert len(points) >= 3
    counts = codec.from_coco([points.reshape(-1).tolist()], *size)
    return codec.decode(counts, *size)


def drawn_box(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    (left, top), (right, bottom) = points[0] - points[1] / 2, points[0] + points[1] / 2
    mask = np.zeros(size, np.uint8)
    mask[round(top) : round(bottom), round(left) : round(right)] = 1
    return mask


READ_BACK = {
    "coco-instances": read_instances,
    "coco-results": read_results,
    "coco-panoptic": read_panoptic,
    "semantic-png": read_semantic,
    "semantic-png-stuffthing": read_semantic,
    "coco-polygons": read_polygons,
    "coco-flat": read_flat,
    "csv": read_csv,
    "label-studio": read_label_studio,
    "cvat": read_cvat,
    "geojson": read_geojson,
    "webdataset": read_webdataset,
    "hf": read_hf,
    "voc": read_map(".png", {0: BACKGROUND.id}),
    "cityscapes": read_map("_gtFine_labelIds.png", {23: SKY.id}),
    "ade20k": read_map(".png", {3: SKY.id}),
    "overlays": read_overlays,
    "yolo-seg": lambda out: read_yolo(out, drawn_polygon),
    "yolo-detect": lambda out: read_yolo(out, drawn_box),
}
"""Format → its reader."""
