"""A folder of one-channel maps as a side of a comparison: objects, or category ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.storage import Storage
from schemas.records import Task

from .categories import AGNOSTIC, Table
from .map_files import MAP_SUFFIXES, read_map
from .map_key import MapKey
from .segments import Segments, segments_of_map
from .source import ImageEntry


class MapSource:
    """Label maps (0 = background, 1…n = objects) or semantic maps (categories as values).

    Args:
        uri: The folder; sub-folders belong to the names.
        kind: "labels" or "semantic".
        key: What the values of semantic maps mean.
        storage: File access.

    Raises:
        ValueError: The folder holds no map.
    """

    def __init__(self, uri: str, kind: str, *, key: MapKey | None = None, storage: Storage) -> None:
        self.kind = kind
        self.task: Task = "instance" if kind == "labels" else "semantic"
        self._key = key or MapKey(frozenset())
        self.categories: Table | None = self._key.categories if kind == "semantic" else None
        self._storage = storage
        self._paths: list[str] = []
        self._entries: list[ImageEntry] = []
        for entry in storage.list(uri):
            if entry.path.lower().endswith(MAP_SUFFIXES):
                self._paths.append(entry.uri)
                self._entries.append(ImageEntry(len(self._paths), entry.path))
        if not self._paths:
            raise ValueError(f"{uri} holds no {', '.join(MAP_SUFFIXES)} file")

    def entries(self) -> Sequence[ImageEntry]:
        """Maps in the order of their paths."""
        return self._entries

    def read(self, key: int | str) -> Segments:
        """One segment a value. Objects have the category `AGNOSTIC`."""
        path = self._paths[int(key) - 1]
        pixels = read_map(self._storage.read(path), path).astype(np.int32)
        values = np.unique(pixels).tolist()
        if values[0] < 0:
            raise ValueError(f"{path} holds negative numbers")
        if self.kind == "labels":
            return segments_of_map(pixels, dict.fromkeys(values, AGNOSTIC))
        # 0 is nothing in a label map, but may be a category here: shift by one.
        ids = self._key.of(values, path)
        return segments_of_map(pixels + 1, {value + 1: id_ for value, id_ in ids.items()})

    def sample(self, most: int = 8) -> tuple[bool, set[int]]:
        """Whether the first maps have more than 8 bits, and the values of their pixels."""
        deep, values = False, set[int]()
        for path in self._paths[:most]:
            pixels = read_map(self._storage.read(path), path)
            deep |= pixels.dtype.itemsize > 1
            values |= set(np.unique(pixels).tolist())
        return deep, values
