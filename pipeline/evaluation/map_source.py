"""A folder of one-channel maps as a side of a comparison: objects, or category ids."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from pipeline.storage import Storage
from schemas.records import Task

from .categories import AGNOSTIC, Table
from .map_files import MAP_SUFFIXES, read_map
from .segments import Segments, segments_of_map
from .source import ImageEntry


class MapSource:
    """Label maps (0 = background, 1…n = objects) or semantic maps (category ids).

    Args:
        uri: The folder; sub-folders belong to the names.
        kind: "labels" or "semantic".
        void: Pixel values of a semantic map that mean unlabelled.
        pixel_offset: Category id − pixel value in a semantic map.
        storage: File access.

    Raises:
        ValueError: The folder holds no map.
    """

    categories: Table | None = None

    def __init__(
        self,
        uri: str,
        kind: str,
        *,
        void: Collection[int] = (),
        pixel_offset: int = 0,
        storage: Storage,
    ) -> None:
        self.kind = kind
        self.task: Task = "instance" if kind == "labels" else "semantic"
        self._void, self._offset, self._storage = frozenset(void), pixel_offset, storage
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
        return segments_of_map(
            pixels + 1, {v + 1: v + self._offset for v in values if v not in self._void}
        )

    def sample(self, most: int = 8) -> tuple[bool, set[int]]:
        """Whether the first maps have more than 8 bits, and the values of their pixels."""
        deep, values = False, set[int]()
        for path in self._paths[:most]:
            pixels = read_map(self._storage.read(path), path)
            deep |= pixels.dtype.itemsize > 1
            values |= set(np.unique(pixels).tolist())
        return deep, values
