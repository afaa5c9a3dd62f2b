"""What should lie around a mask in its crop? Objects of real photos, trained features.

No weights of CLIP or DINOv2 are at hand, so the features are those of a MobileNetV2 that was
trained on COCO and VOC (the backbone of a DeepLab): mean over the crop, of length 1. Every object
asks for the most alike object of another photo, and the categories are compared.

    python -m bench.exemplar_views --data ../shared/data
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn.functional import normalize

from pipeline.masks import codec
from pipeline.models.checkpoints.hf_preprocessor import EmbedderInput
from pipeline.models.naming.crops import MaskCrops
from schemas.config.model import NamingConfig
from schemas.records import ImageRecord, Sample, Segment

RULE = EmbedderInput(160, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
VIEWS = (
    ("keep",),
    ("grey",),
    ("blur",),
    ("keep", "grey"),
    ("keep", "blur"),
    ("keep", "grey", "blur"),
)
MARGINS = (0.0, 0.1, 0.25, 0.5)
LEAST = 400
"""Pixels of an object."""

Objects = list[tuple[Sample, Segment]]


def objects_of(folder: Path) -> Objects:
    """All outlined objects of `coco-photos`."""
    truth = json.loads((folder / "instances.json").read_text())
    samples: dict[int, Sample] = {}
    for each in truth["images"]:
        picture = cv2.imread(str(folder / "images" / each["file_name"]))
        if picture is None:
            raise ValueError(f"{each['file_name']} cannot be read")
        pixels = np.ascontiguousarray(picture[..., ::-1], np.uint8)
        hw = (pixels.shape[0], pixels.shape[1])
        samples[each["id"]] = Sample(ImageRecord(each["file_name"], ""), pixels, hw)
    found: Objects = []
    for each in truth["annotations"]:
        sample = samples[each["image_id"]]
        counts = codec.from_coco(each["segmentation"], *sample.original_hw)
        area = codec.area(counts, *sample.original_hw)
        if not each["iscrowd"] and area >= LEAST:
            box = codec.bbox_xywh(counts, *sample.original_hw)
            found.append((sample, Segment(each["category_id"], counts, area, box)))
    return found


def features(network: Any, objects: Objects, config: NamingConfig) -> np.ndarray:
    """n×d float32 of length 1."""
    crops = MaskCrops(RULE, config, "cpu")
    rows = []
    for start in range(0, len(objects), 16):
        views = crops(objects[start : start + 16])
        with torch.inference_mode():
            seen = network(views.flatten(0, 1), output_hidden_states=True).hidden_states[-1]
        each = normalize(seen.mean((2, 3)), dim=-1).unflatten(0, views.shape[:2])
        rows.append(normalize(each.mean(1), dim=-1))
    return torch.cat(rows).numpy()


def scores(vectors: np.ndarray, category: np.ndarray, photo: np.ndarray) -> tuple[float, float]:
    """Share of objects whose nearest one is of their category, and mean average precision."""
    other = photo[:, None] != photo[None]
    same = (category[:, None] == category[None]) & other
    likeness = np.where(other, vectors @ vectors.T, -9.0)
    asking = np.flatnonzero(same.any(1))
    first = (category[likeness.argmax(1)] == category)[asking].mean()
    precision = []
    for one in asking:
        hits = same[one][np.argsort(-likeness[one], kind="stable")][: other[one].sum()]
        precision.append((hits * hits.cumsum() / (1 + np.arange(len(hits)))).sum() / hits.sum())
    return float(first), float(np.mean(precision))


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one line for each choice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args(arguments).data
    from transformers import AutoModelForSemanticSegmentation

    folder = data / "weights" / "deeplabv3-mobilenetv2-1.0-voc"
    model: Any = AutoModelForSemanticSegmentation.from_pretrained(folder)
    network = model.eval().mobilenet_v2
    objects = objects_of(data / "coco-photos")
    category = np.array([segment.category_id for _, segment in objects])
    photo = np.array([id(sample) for sample, _ in objects])
    print(f"{len(objects)} objects of {len(set(category.tolist()))} categories")
    for views in VIEWS:
        for margin in MARGINS:
            config = NamingConfig.parse({"views": views, "margin": margin})
            first, precision = scores(features(network, objects, config), category, photo)
            print(f"{'+'.join(views):16} margin {margin:4} first {first:.3f} mAP {precision:.3f}")


if __name__ == "__main__":
    main()
