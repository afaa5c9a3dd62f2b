"""Reads our exports with the programs that own the formats; runs in an environment of theirs.

`tests/contract/test_owning_tools.py` starts it with the Python of `tests/tools.lock`:

    python owning_tools.py FOLDER…    what every tool finds, and a person's corrections

A mask is told by (file name, category, compressed RLE string of pycocotools).
"""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from datumaro.components.annotation import AnnotationType, Mask
from datumaro.components.dataset import Dataset
from label_studio_sdk.converter.brush import decode_rle, mask2rle
from label_studio_sdk.converter.imports.coco import convert_coco_to_ls
from pycocotools import mask as coco_mask
from sahi.utils.coco import Coco
from shapely import contains_xy

Found = list[list[str]]


def main(*folders: str) -> None:
    """Prints a JSON object a folder: `found`, and the `corrected` that the SDKs write into it."""
    roots = map(Path, folders)
    print(json.dumps([{"found": look(root), "corrected": correct(root)} for root in roots]))


def look(root: Path) -> dict[str, Any]:
    """Format → what its owner reads."""
    return {
        "label-studio": label_studio(root / "label-studio"),
        "cvat": cvat(root),
        "coco-polygons": sahi(root / "coco-polygons" / "instances_polygons.json"),
        "converter": converter(root),
        "coco-flat": datumaro_coco(root),
    }


def label_studio(folder: Path) -> Found:
    """Brush masks through the SDK's decoder."""
    found = []
    for task in json.loads((folder / "tasks.json").read_bytes()):
        for item in task["predictions"][0]["result"]:
            height, width = item["original_height"], item["original_width"]
            pixels = decode_rle(item["value"]["rle"]).reshape(height, width, 4)[..., 3]
            (label,) = item["value"]["brushlabels"]
            found.append([task["data"]["file_name"], label, text_of(pixels)])
    return found


def cvat(root: Path) -> Found:
    """Masks through datumaro's reader of CVAT for images, which wants the pictures beside it."""
    return [
        [name_of(root, item), label, text_of(np.asarray(one.image))]
        for item, one, label in annotations(opened_cvat(root))
        if one.type == AnnotationType.mask
    ]


def opened_cvat(root: Path) -> Dataset:
    """The export, unpacked beside its pictures."""
    folder = root / "cvat-opened"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with zipfile.ZipFile(root / "cvat" / "annotations.zip") as archive:
        archive.extractall(folder)
    shutil.copytree(root / "pictures", folder / "images")
    return Dataset.import_from(str(folder), "cvat")


def annotations(dataset: Dataset) -> Any:
    """All annotations: (item, annotation, name of its label)."""
    labels = dataset.categories()[AnnotationType.label]
    for item in dataset:
        for one in item.annotations:
            yield item, one, labels[one.label].name


def name_of(root: Path, item: Any) -> str:
    """datumaro drops the suffix of a picture's name."""
    (path,) = (root / "pictures").glob(f"{item.id}.*")
    return path.relative_to(root / "pictures").as_posix()


def sahi(path: Path) -> Found:
    """Pixels whose centres lie in the shapes that SAHI makes of the polygons, and its areas."""
    given = json.loads(path.read_bytes())
    sizes = {item["file_name"]: (item["height"], item["width"]) for item in given["images"]}
    found, areas = [], []
    for image in Coco.from_coco_dict_or_path(str(path)).images:
        height, width = sizes[image.file_name]
        y, x = np.mgrid[:height, :width] + 0.5
        for one in image.annotations:
            shape = one._shapely_annotation.multipolygon
            found.append([image.file_name, one.category_name, text_of(contains_xy(shape, x, y))])
            areas.append(one.area)
    assert np.allclose(sorted(areas), sorted(item["area"] for item in given["annotations"]))
    return found


def converter(root: Path) -> dict[str, int]:
    """Shapes that Label Studio's own converter makes of COCO polygons."""
    out = root / "converted.json"
    convert_coco_to_ls(str(root / "coco-polygons" / "instances_polygons.json"), str(out))
    kinds: dict[str, int] = {}
    for task in json.loads(out.read_bytes()):
        for part in task.get("annotations") or task["predictions"]:
            for item in part["result"]:
                kinds[item["type"]] = kinds.get(item["type"], 0) + 1
    return kinds


def datumaro_coco(root: Path) -> dict[str, list[int]]:
    """Flat name → height and width of the opened picture, and its shapes."""
    folder = root / "coco-opened"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "annotations").mkdir(parents=True)
    shutil.copy(root / "coco-flat" / "instances.json", folder / "annotations/instances_all.json")
    shutil.copytree(root / "coco-flat" / "images", folder / "images" / "all")
    return {
        item.id: [*item.media.data.shape[:2], len({one.id for one in item.annotations})]
        for item in Dataset.import_from(str(folder), "coco_instances")
    }


def correct(root: Path) -> dict[str, Found]:
    """Moves every mask a pixel to the right, as a person might, and hands it in by both SDKs."""
    return {"label-studio": correct_brushes(root), "cvat": correct_masks(root)}


def correct_brushes(root: Path) -> Found:
    """`ls.json`: an export of Label Studio, masks encoded by its SDK."""
    tasks, found = json.loads((root / "label-studio" / "tasks.json").read_bytes()), []
    for task in tasks:
        results = task.pop("predictions")[0]["result"]
        for item in results:
            height, width = item["original_height"], item["original_width"]
            pixels = moved(decode_rle(item["value"]["rle"]).reshape(height, width, 4)[..., 3])
            item["value"]["rle"] = mask2rle(pixels * 255)
            del item["meta"]
            name = task["data"]["file_name"]
            found.append([name, item["value"]["brushlabels"][0], text_of(pixels)])
        task["annotations"] = [{"id": task["id"], "result": results, "completed_by": 7}]
    (root / "ls.json").write_text(json.dumps(tasks))
    return found


def correct_masks(root: Path) -> Found:
    """`cvat.zip`: CVAT for images 1.1 as datumaro writes it."""
    dataset, found = opened_cvat(root), []
    for item, one, label in list(annotations(dataset)):
        pixels = moved(np.asarray(one.image))
        place = item.annotations.index(one)
        item.annotations[place] = Mask(image=pixels, label=one.label, id=one.id)
        found.append([name_of(root, item), label, text_of(pixels)])
        dataset.put(item)
    folder = root / "cvat-corrected"
    dataset.export(str(folder), "cvat")
    (xml,) = folder.rglob("*.xml")
    with zipfile.ZipFile(root / "cvat.zip", "w") as archive:
        archive.write(xml, "annotations.xml")
    return found


def moved(pixels: Any) -> np.ndarray:
    """A mask a column to the right, 0 or 1; what would leave the picture stays."""
    mask = (np.asarray(pixels) > 0).astype(np.uint8)
    right = np.roll(mask, 1, axis=1)
    right[:, 0] = 0
    return right if right.any() else mask


def text_of(pixels: Any) -> str:
    """A mask's compressed RLE string."""
    return text_of_rle(coco_mask.encode(np.asfortranarray(np.asarray(pixels) > 0, np.uint8)))


def text_of_rle(rle: Any) -> str:
    """The same of pycocotools' own object."""
    return rle["counts"].decode()


if __name__ == "__main__":
    main(*sys.argv[1:])
