"""COCO panoptic JSON with its folder of PNG as a side of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.storage.storage import Storage
from schemas.names import below
from schemas.records import Task

from . import fields
from .categories import ScoredCategory, Table
from .coco import coco_table, entries_of
from .fields import ImageKey, LeftOut, same_key, shown
from .json_file import JsonFile, is_scalar
from .maps import read_id_map
from .source import ImageEntry, Segments, segments_of_map


class PanopticSource:
    """Segments whose ids are colours of a PNG: id = R + 256·G + 256²·B, 0 = unlabelled.

    Args:
        file: The JSON file.
        folder: URI of the folder that holds the PNG files.
        storage: File access.
        skip_invalid: Leave out images whose entries cannot be used, instead of refusing the file.

    Attributes:
        left_out: Entries that were left out when the file was opened.

    Raises:
        ValueError: An entry is wrong.
    """

    kind = "coco-panoptic"
    task: Task = "panoptic"

    def __init__(
        self, file: JsonFile, *, folder: str, storage: Storage, skip_invalid: bool = False
    ) -> None:
        self._file, self._folder, self._storage = file, folder, storage
        self.left_out = LeftOut(file.uri, skip=skip_invalid)
        table = coco_table(entries_of(file, "categories"), self.left_out)
        names = self._names()
        self._entries: list[ImageEntry] = []
        self._place: dict[ImageKey, int] = {}
        used: set[int] = set()
        spans = file.spans("annotations")
        kept: list[int] = []
        number = -1
        for batch in file.batches(spans, whole=("image_id",)):
            for _, item in batch:
                if is_scalar(item):
                    self.left_out.add(f"an entry of the annotations is {shown(item)}, no object")
                    continue
                number += 1
                try:
                    key, categories = _checked(item, table)
                    if key in self._place:
                        raise ValueError("the image has another one before")
                except ValueError as error:
                    own = item.get("image_id") if isinstance(item, Mapping) else None
                    self.left_out.add(f"annotation of image {shown(own)}: {error}")
                    continue
                used |= categories
                kept.append(number)
                self._place[key] = len(self._entries)
                own = item["image_id"]
                self._entries.append(
                    ImageEntry(own if isinstance(own, str) else key, names.get(key))
                )
        self._starts, self._ends = spans.starts[kept], spans.ends[kept]
        file.forget()
        self.categories: Table | None = table or {
            id_: ScoredCategory(id_, str(id_)) for id_ in sorted(used)
        }

    def entries(self) -> Sequence[ImageEntry]:
        """Images in the order of the annotations."""
        return self._entries

    def block(self, key: int | str) -> int:
        """Images are read one by one."""
        return 0

    def read(self, key: int | str) -> Segments:
        """The segments of one PNG.

        Raises:
            ValueError: An id stands in the PNG but not in the JSON, or the other way round.
        """
        place = slice(self._place[same_key(key)], self._place[same_key(key)] + 1)
        (annotation,) = self._file.read(self._starts[place], self._ends[place])
        name = fields.file_name(annotation)
        path = below(self._folder, name)
        if "\\" in name and not self._storage.exists(path):  # written by Windows
            path = below(self._folder, name.replace("\\", "/"))
        id_map = read_id_map(self._storage.read(path), path)
        infos = {fields.whole(item, "id"): item for item in annotation["segments_info"]}
        found = set(np.unique(id_map).tolist()) - {0}
        if alone := sorted(found ^ set(infos)):
            place = ("PNG", "JSON") if alone[0] in found else ("JSON", "PNG")
            raise ValueError(
                f"{self._file.uri}: image {key}: segment {alone[0]} is in the {place[0]} "
                f"but not in the {place[1]}"
            )
        return segments_of_map(
            id_map,
            {id_: fields.category_id(item) for id_, item in infos.items()},
            crowds=frozenset(id_ for id_, item in infos.items() if fields.flag(item, "iscrowd")),
        )

    def _names(self) -> dict[ImageKey, str]:
        """Id of each image → its name; images may be missing, and so may names."""
        names: dict[ImageKey, str] = {}
        for item in entries_of(self._file, "images"):
            try:
                if not isinstance(item, Mapping):
                    raise ValueError(f"{shown(item)} is no object")
                key = fields.image_key(item, "id")
                if item.get("file_name") is None:
                    continue
                name = fields.file_name(item)
                if names.setdefault(key, name) != name:
                    raise ValueError(f"id {shown(key)} is that of {names[key]!r} and {name!r}")
            except ValueError as error:
                self.left_out.add(f"images: {error}")
        return names


def _checked(item: Any, table: Table) -> tuple[ImageKey, set[int]]:
    """Id of the image and categories of an annotation.

    Raises:
        ValueError: It is no panoptic annotation.
    """
    if not isinstance(item, Mapping):
        raise ValueError("it is no object")
    key = fields.image_key(item, "image_id")
    fields.file_name(item)
    infos: Any = item.get("segments_info")
    if not isinstance(infos, list) or not all(isinstance(info, Mapping) for info in infos):
        raise ValueError("its segments_info is no list of objects")
    ids = [fields.whole(info, "id") for info in infos]
    if len(set(ids)) < len(ids):
        twice = next(id_ for place, id_ in enumerate(ids) if id_ in ids[:place])
        raise ValueError(f"segment {twice} is listed twice")
    categories = set()
    for info in infos:
        category = fields.category_id(info)
        fields.flag(info, "iscrowd")
        if table and category not in table:
            raise ValueError(f"category {category} is not under categories")
        categories.add(category)
    return key, categories
