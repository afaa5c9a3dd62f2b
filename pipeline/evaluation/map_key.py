"""What the pixels of a folder of semantic maps mean, where a file beside them says it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from pipeline.storage import Storage, join

from .categories import Table
from .coco_source import coco_table

KEY_FILE = "categories.json"
"""As the export `semantic-png` writes it: {"unlabelled": value, "categories": [{"pixel": value,
"id": …, "name": …, "isthing": …}]}; without "pixel" the id is the value."""


@dataclass(frozen=True, slots=True)
class MapKey:
    """Pixel values of semantic maps.

    Attributes:
        void: Values that mean unlabelled.
        ids: Value → category id; None = value + `offset`, whatever the value.
        offset: Category id − value.
        categories: Names of the ids; None where nothing but the pixels tells.
    """

    void: frozenset[int]
    ids: Mapping[int, int] | None = None
    offset: int = 0
    categories: Table | None = None

    def of(self, values: Collection[int], name: str) -> dict[int, int]:
        """Value → category id for those of `values` that are not void.

        Raises:
            ValueError: A value has no meaning; names the map.
        """
        known = [value for value in values if value not in self.void]
        if self.ids is None:
            return {value: value + self.offset for value in known}
        if strange := sorted(set(known) - set(self.ids)):
            raise ValueError(f"{name} holds {strange[0]}, which {KEY_FILE} does not list")
        return {value: self.ids[value] for value in known}


def map_key(
    folder: str, *, void: Collection[int] | None, pixel_offset: int, storage: Storage
) -> MapKey:
    """The key of a folder of maps.

    Args:
        folder: URI.
        void: Values that mean unlabelled; None = what the file says; without a file 0 and 255, or
            with a `pixel_offset` 255 alone.
        pixel_offset: Category id − value, where there is no file.
        storage: File access.

    Raises:
        ValueError: The file is not what it should be, or there is an offset, too.
        StorageError: It cannot be read.
    """
    uri = join(folder, KEY_FILE)
    if not storage.exists(uri):
        usual = (255,) if pixel_offset else (0, 255)
        return MapKey(frozenset(usual if void is None else void), offset=pixel_offset)
    if pixel_offset:
        raise ValueError(f"{uri} says what pixels mean: there is no offset to give")
    try:
        data: Any = orjson.loads(storage.read(uri))
        rows = data["categories"]
        table = coco_table(rows)
        ids = {int(row.get("pixel", row["id"])): int(row["id"]) for row in rows}
        unlabelled = data.get("unlabelled")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{uri} does not say what pixels mean: {error!r}") from None
    usual = () if unlabelled is None else (int(unlabelled),)
    return MapKey(frozenset(usual if void is None else void), ids, categories=table)
