"""COCO panoptic JSON with its folder of PNG as a side of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.storage.storage import Storage
from schemas.names import below
from schemas.records import Task

from .categories import ScoredCategory, Table
from .coco import coco_table
from .maps import read_id_map
from .source import ImageEntry, Segments, segments_of_map


class PanopticSource:
    """Segments whose ids are colours of a PNG: id = R + 256·G + 256²·B, 0 = unlabelled.

    Args:
        data: The parsed JSON.
        uri: Of the JSON, for messages.
        folder: URI of the folder that holds the PNG files.
        storage: File access.

    Raises:
        ValueError: An entry lacks a key.
    """

    kind = "coco-panoptic"
    task: Task = "panoptic"

    def __init__(self, data: Mapping[str, Any], *, uri: str, folder: str, storage: Storage) -> None:
        self._uri, self._folder, self._storage = uri, folder, storage
        names = {item["id"]: item.get("file_name") for item in data.get("images", ())}
        try:
            self._annotations = {item["image_id"]: item for item in data["annotations"]}
            used = {s["category_id"] for item in data["annotations"] for s in item["segments_info"]}
        except (KeyError, TypeError) as error:
            raise ValueError(f"{uri} is no panoptic file: an entry lacks {error}") from None
        self._entries = [ImageEntry(key, names.get(key)) for key in self._annotations]
        table = coco_table(data.get("categories"))
        if table and (missing := sorted(used - set(table))):
            raise ValueError(f"{uri}: category {missing[0]} is not under categories")
        self.categories: Table | None = table or {
            id_: ScoredCategory(id_, str(id_)) for id_ in sorted(used)
        }

    def entries(self) -> Sequence[ImageEntry]:
        """Images in the order of the annotations."""
        return self._entries

    def read(self, key: int | str) -> Segments:
        """The segments of one PNG.

        Raises:
            ValueError: An id stands in the PNG but not in the JSON, or the other way round.
        """
        annotation = self._annotations[key]
        path = below(self._folder, annotation["file_name"])
        id_map = read_id_map(self._storage.read(path), path)
        infos = {item["id"]: item for item in annotation["segments_info"]}
        found = set(np.unique(id_map).tolist()) - {0}
        if alone := sorted(found ^ set(infos)):
            place = ("PNG", "JSON") if alone[0] in found else ("JSON", "PNG")
            raise ValueError(
                f"{self._uri}: image {key}: segment {alone[0]} is in the {place[0]} "
                f"but not in the {place[1]}"
            )
        return segments_of_map(
            id_map,
            {id_: item["category_id"] for id_, item in infos.items()},
            crowds=frozenset(id_ for id_, item in infos.items() if item.get("iscrowd")),
        )
