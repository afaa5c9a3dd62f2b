"""A second opinion on an instances file: what pycocotools makes of it."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import orjson
from pycocotools import mask as _mask
from pycocotools.coco import COCO

from .findings import Findings

coco_mask: Any = _mask


def check_with_pycocotools(data: bytes, findings: Findings) -> None:
    """Indexes the file with `pycocotools.coco.COCO` and measures its masks.

    Args:
        data: The whole file. Its RLE strings are known to be sound: pycocotools trusts them.
        findings: Takes what is wrong.
    """
    coco: Any = COCO()
    coco.dataset = orjson.loads(data)
    with contextlib.redirect_stdout(io.StringIO()):  # it reports on its progress
        coco.createIndex()
    for key, index in (("images", coco.imgs), ("annotations", coco.anns)):
        rows = coco.dataset[key]
        if len(index) != len(rows):
            doubled = len(rows) - len(index)
            findings.add("export-pycocotools", "", [f"{doubled} {key} share an id"])
    for number, annotation in coco.anns.items():
        if annotation["image_id"] not in coco.imgs or annotation["category_id"] not in coco.cats:
            findings.add("export-pycocotools", "annotation", [number])
            continue
        rle = coco.annToRLE(annotation)
        area, box = int(coco_mask.area(rle)), coco_mask.toBbox(rle).tolist()
        if number < 1 or area != annotation["area"] or box != annotation["bbox"]:
            findings.add("export-pycocotools", "annotation", [number])
