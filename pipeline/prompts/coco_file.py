"""Boxes of a COCO file (instances or plain detection) as prompts.

Categories, annotation ids and image ids are kept. A crowd asks for nothing, as it is no single
object: its region is handed through. Where the file has masks already, they are ignored: the box
asks.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.storage.storage import Storage
from schemas.categories import Categories, Category
from schemas.prompts import Ontology

from .size import file_size
from .table import PromptRow, PromptTable, digest_of, source_id_of


def read(uri: str, storage: Storage) -> PromptTable:
    """Reads the file.

    Raises:
        ValueError: Not COCO, or an annotation lacks a key or names an unknown image or category.
        StorageError: It cannot be read.
    """
    data = storage.read(uri)
    try:
        coco = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{uri} is not JSON: {error}") from error
    if not isinstance(coco, Mapping) or not {"images", "annotations"} <= coco.keys():
        raise ValueError(f"{uri} is no COCO file: it needs images, annotations and categories")
    try:
        names = {item["id"]: item["file_name"] for item in coco["images"]}
        rows = [_row(item, names, uri) for item in coco["annotations"]]
        categories = _categories(coco.get("categories") or (), rows)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{uri}: an entry lacks or misuses {error}") from None
    except ValueError as error:
        raise ValueError(f"{uri}: {str(error).removeprefix(f'{uri}: ')}") from None
    twice = sorted(name for name, times in Counter(names.values()).items() if times > 1)
    if twice:
        raise ValueError(f"{uri} names the picture {twice[0]!r} under two ids")
    return PromptTable(
        rows,
        categories=categories,
        uri=uri,
        digest=digest_of(data),
        names={name: id_ if isinstance(id_, int) else None for id_, name in names.items()},
        sizes={
            item["file_name"]: size
            for item in coco["images"]
            if (size := file_size(item.get("height"), item.get("width")))
        },
    )


def _row(item: Mapping[str, Any], names: Mapping[Any, str], uri: str) -> PromptRow:
    if item["image_id"] not in names:
        raise ValueError(
            f"{uri}: annotation {item['id']} is of the unknown image {item['image_id']}"
        )
    crowd = bool(item.get("iscrowd"))
    box = None
    if not crowd or not item.get("segmentation"):
        x, y, w, h = (float(value) for value in item["bbox"])
        box = (x, y, x + w, y + h)
    return PromptRow(
        names[item["image_id"]],
        item["category_id"],
        bbox_xyxy=box,
        source_id=source_id_of(item["id"]),
        segmentation=item["segmentation"] if crowd and item.get("segmentation") else None,
    )


def _categories(given: Sequence[Mapping[str, Any]], rows: Sequence[PromptRow]) -> Categories:
    """The file's own ids, names and groups; colours where it states them."""
    if not given:
        used = sorted({row.category_id for row in rows})
        given = [{"id": id_, "name": f"category {id_}"} for id_ in used]
    plain = Ontology.parse({"category": [{"id": c["id"], "name": c["name"]} for c in given]})
    return Categories(
        tuple(
            Category(
                made.id,
                made.name,
                isthing=bool(item.get("isthing", 1)),
                color="#{:02x}{:02x}{:02x}".format(*item["color"])
                if "color" in item
                else made.color,
                supercategory=str(item.get("supercategory") or ""),
            )
            for made, item in zip(plain.categories(), given, strict=True)
        )
    )
