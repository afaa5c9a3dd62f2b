"""Semantic PNG: one grey picture an image whose values are categories, in two conventions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from pipeline.ledger import Ledger
from pipeline.storage import join
from schemas.categories import Categories
from schemas.records import Task

from .png_folder import remove_others, write_pngs
from .png_names import PngNames
from .table import Artifact


class SemanticPng:
    """The "category-id" convention: pixel = category id, 0 = unlabelled.

    Single channel, 8 bits as long as all values fit, else 16. `categories.json`, written last,
    says which convention it is and what each value means.
    """

    tasks: tuple[Task, ...] = ("semantic", "panoptic")
    folder = "semantic"
    owns = ""
    name = "semantic-png"
    convention = "category-id"

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes `out`/*.png, then `out`/categories.json, then removes stale PNGs.

        Raises:
            ValueError: A category id does not fit into 16 bits.
        """
        values = self.values(ledger.categories)
        unlabelled = self.unlabelled(ledger.categories)
        highest = max([unlabelled, *values.values()])
        if highest > 65_535:
            raise ValueError(f"category {max(values)}: its value {highest} needs more than 16 bits")
        dtype = np.dtype(np.uint8 if highest <= 255 else np.uint16)
        table = np.full(max([0, *values]) + 1, unlabelled, dtype)
        for category_id, value in values.items():
            table[category_id] = value

        def pixels(ids: npt.NDArray[np.int32]) -> npt.NDArray[Any]:
            return table[ids]

        names = PngNames.of_ledger(ledger)
        pictures = write_pngs(ledger, out, names, column="category_id", pixels=pixels)
        key = {
            "format": self.name,
            "convention": self.convention,
            "dtype": dtype.name,
            "unlabelled": unlabelled,
            "categories": [
                {"pixel": values[item.id], **item.to_coco()} for item in ledger.categories
            ],
        }
        text = orjson.dumps(key, option=orjson.OPT_INDENT_2) + b"\n"
        ledger.storage.write(join(out, "categories.json"), text)
        remove_others(ledger.storage, out, names)
        return [
            Artifact("categories.json", self.name, len(ledger.categories)),
            Artifact("./", self.name, pictures),
        ]

    def values(self, categories: Categories) -> dict[int, int]:
        """category id → pixel value."""
        return {item.id: item.id for item in categories}

    def unlabelled(self, categories: Categories) -> int:
        """The value of pixels that no segment covers."""
        return 0


class StuffThingPng(SemanticPng):
    """COCO-Stuff's "stuffthingmaps" convention: pixel = category id − 1, 255 = unlabelled.

    With category ids above 255 the pictures have 16 bits and unlabelled is 65535.
    """

    folder = "semantic-stuffthing"
    name = "semantic-png-stuffthing"
    convention = "stuffthingmaps"

    def values(self, categories: Categories) -> dict[int, int]:
        """category id → pixel value."""
        return {item.id: item.id - 1 for item in categories}

    def unlabelled(self, categories: Categories) -> int:
        """The value of pixels that no segment covers."""
        return 255 if max([0, *(item.id for item in categories)]) <= 255 else 65_535
