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
        names = _names(coco["images"])
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
    image = _plain(item["image_id"])
    if image not in names:
        raise ValueError(
            f"{uri}: annotation {item['id']} is of the unknown image {item['image_id']}"
        )
    crowd = _is_crowd(item)
    box = None
    if not crowd or not item.get("segmentation"):
        bbox = item["bbox"]
        true = isinstance(bbox, list) and any(isinstance(value, bool) for value in bbox)
        if not isinstance(bbox, list) or len(bbox) != 4 or true:
            raise ValueError(
                f"annotation {item['id']}: its bbox is {bbox!r}, no [x, y, width, height]"
            )
        x, y, w, h = (float(value) for value in bbox)
        box = (x, y, x + w, y + h)
    return PromptRow(
        names[image],
        _plain(item["category_id"]),
        bbox_xyxy=box,
        source_id=source_id_of(item["id"]),
        segmentation=item["segmentation"] if crowd and item.get("segmentation") else None,
    )


def _names(images: Sequence[Mapping[str, Any]]) -> dict[Any, str]:
    """Id of each image → its name.

    Raises:
        ValueError: Two pictures have one id: whose are the boxes?
    """
    names: dict[Any, str] = {}
    for item in images:
        key, name = _plain(item["id"]), item["file_name"]
        if names.setdefault(key, name) != name:
            raise ValueError(f"image id {key} is that of {names[key]!r} and {name!r}")
    return names


def _plain(value: Any) -> Any:
    """An id; text that writes a number, as "17" does and "017" does not, is that number."""
    text = value.strip() if isinstance(value, str) else ""
    return int(text) if text.isdecimal() and str(int(text)) == text else value


def _is_crowd(item: Mapping[str, Any]) -> bool:
    """`iscrowd`, also as text.

    Raises:
        ValueError: It is neither 0 nor 1.
    """
    value = item.get("iscrowd")
    text = str(0 if value is None else value).strip().lower()
    if text not in ("0", "0.0", "false", "1", "1.0", "true"):
        raise ValueError(f"annotation {item['id']}: its iscrowd is {value!r}, neither 0 nor 1")
    return text in ("1", "1.0", "true")


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
