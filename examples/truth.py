"""Writes known label maps as ground truth: COCO instances and 16-bit PNG label maps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.masks.codec import regions


def write_truth(
    folder: Path, label_maps: Mapping[str, npt.NDArray[np.uint16]], *, category: str, about: str
) -> int:
    """Writes FOLDER/instances.json and FOLDER/labels/<file name>.png.

    Args:
        folder: Is made where it is missing.
        label_maps: File name of the picture → HxW uint16, 0 = nothing, 1…n = objects. A picture
            without any object is a statement too: every find in it is false.
        category: What the objects are; its id is 1.
        about: One line for the file's `info`.

    Returns:
        How many objects were written.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (file_name, label_map) in enumerate(sorted(label_maps.items()), start=1):
        height, width = label_map.shape
        images.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
        for region in regions(label_map):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "segmentation": {"size": [height, width], "counts": region.counts.decode()},
                    "area": region.area,
                    "bbox": list(region.bbox_xywh),
                    "iscrowd": 0,
                }
            )
        target = folder / "labels" / PurePosixPath(file_name).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), label_map)
    coco = {
        "info": {"description": about},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": category, "supercategory": ""}],
    }
    (folder / "instances.json").write_text(json.dumps(coco), encoding="utf-8")
    return len(annotations)
