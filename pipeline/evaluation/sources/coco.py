"""COCO JSON with masks as a side of a comparison: an instances file, or a list of results."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.masks import codec
from schemas.records import Task

from .categories import ScoredCategory, Table, canonical
from .source import ImageEntry, Segments, make_segments


class CocoSource:
    """Instances `{"images", "annotations", "categories"}` or results `[{"image_id", …}]`.

    Args:
        data: The parsed file.
        uri: Of the file, for messages.

    Raises:
        ValueError: It is neither, or an entry lacks a key.
    """

    task: Task = "instance"

    def __init__(self, data: Mapping[str, Any] | Sequence[Any], *, uri: str) -> None:
        self._uri = uri
        results = not isinstance(data, Mapping)
        self.kind = "coco-results" if results else "coco-instances"
        annotations = data if results else data.get("annotations", [])
        self._by_image: dict[Any, list[Mapping[str, Any]]] = {}
        self._sizes: dict[Any, tuple[int, int]] = {}
        try:
            for item in annotations:
                if results and "score" not in item:
                    raise ValueError(f"{uri}: a result of image {item['image_id']} has no score")
                self._by_image.setdefault(item["image_id"], []).append(item)
            if results:
                self._entries = [ImageEntry(key, None) for key in self._by_image]
            else:
                self._entries = [ImageEntry(i["id"], i["file_name"]) for i in data["images"]]
                self._sizes = {i["id"]: (i["height"], i["width"]) for i in data["images"]}
            used = sorted({item["category_id"] for item in annotations})
            if strange := [id_ for id_ in used if type(id_) is not int]:
                raise ValueError(f"{uri}: category_id {strange[0]!r} is no whole number")
        except (KeyError, TypeError) as error:
            raise ValueError(f"{uri} is no COCO file with masks: an entry lacks {error}") from None
        stray = sorted(set(self._by_image) - set(self._sizes)) if not results else []
        if stray:
            raise ValueError(f"{uri}: annotations of image {stray[0]}, which is not under images")
        table = coco_table(data.get("categories") if isinstance(data, Mapping) else None)
        unnamed = {id_: ScoredCategory(id_, str(id_)) for id_ in used}
        self.categories: Table | None = unnamed | table

    def entries(self) -> Sequence[ImageEntry]:
        """Images in the file's order."""
        return self._entries

    def read(self, key: int | str) -> Segments:
        """The annotations of one image in the file's order, polygons drawn as masks."""
        items = self._by_image.get(key, [])
        height, width = self._sizes[key] if key in self._sizes else self._result_size(items)
        counts: list[bytes] = []
        for item in items:
            try:
                counts.append(codec.from_coco(item["segmentation"], height, width, canonical=False))
            except (KeyError, ValueError, TypeError, OverflowError) as error:
                what = "it has no segmentation" if isinstance(error, KeyError) else error
                where = f"annotation {item.get('id', '')} of image {key}".replace("  ", " ")
                raise ValueError(f"{self._uri}: {where}: {what}") from None
        try:
            return make_segments(
                height,
                width,
                counts,
                [item["category_id"] for item in items],
                iscrowd=[item.get("iscrowd", 0) for item in items],
                scores=[item.get("score") for item in items],
                coco_areas=[item.get("area") for item in items],
            )
        except (TypeError, OverflowError) as error:
            raise ValueError(
                f"{self._uri}: an annotation of image {key}: a value of the wrong kind: {error}"
            ) from None

    def _result_size(self, items: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
        segmentation = items[0].get("segmentation") if items else None
        if not isinstance(segmentation, Mapping) or "size" not in segmentation:
            raise ValueError(f"{self._uri}: results must hold masks as RLE with their size")
        height, width = segmentation["size"]
        return int(height), int(width)


def coco_table(categories: Sequence[Mapping[str, Any]] | None) -> dict[int, ScoredCategory]:
    """A `categories` list; without `isthing`, a category is a thing unless it is "background".

    Raises:
        ValueError: An entry has no id.
    """
    table: dict[int, ScoredCategory] = {}
    for item in categories or ():
        if "id" not in item:
            raise ValueError("a category has no id")
        id_ = item["id"]
        name = str(item.get("name", id_))
        rest = canonical(name) == "background"
        isthing = bool(item.get("isthing", 1)) and not rest
        table[id_] = ScoredCategory(id_, name, isthing, rest, _color(item.get("color")))
    return table


def _color(value: Any) -> str:
    """COCO writes [red, green, blue], our own files "#rrggbb"; "" for anything else."""
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 3:
        parts = [part for part in value if isinstance(part, int) and 0 <= part <= 255]
        return "#" + "".join(f"{part:02x}" for part in parts) if len(parts) == 3 else ""
    return value if isinstance(value, str) and re.fullmatch("#[0-9a-f]{6}", value) else ""
