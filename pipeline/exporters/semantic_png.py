"""Semantic PNG: one grey picture an image whose values are categories, in two conventions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from pipeline.ledger.ledger import Ledger
from pipeline.storage.uris import join
from schemas.categories import Categories
from schemas.records import Task

from .png_check import check_pngs, grey
from .png_folder import PngNames, remove_others, write_pngs
from .table import Artifact, Report, Standing, Traits


class SemanticPng:
    """The "category-id" convention: pixel = category id, 0 = unlabelled.

    Single channel, 8 bits as long as all values fit, else 16. `categories.json`, written last,
    says which convention it is and what each value means.
    """

    tasks: tuple[Task, ...] = ("semantic", "panoptic")
    folder = "semantic"
    owns = ""
    file = "categories.json"
    options: tuple[str, ...] = ()
    traits = Traits(label_pngs=1, names=True)
    name = "semantic-png"
    convention = "category-id"

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes `out`/*.png, then `out`/categories.json, then removes stale PNGs.

        Raises:
            ValueError: A category id does not fit into 16 bits.
        """
        return self.renew(ledger, out, None)

    def renew(self, ledger: Ledger, out: str, before: Standing | None) -> list[Artifact]:
        """See `table.Renewable`. The values may be others where the categories are."""
        if before is not None and before.ledger.manifest.categories != ledger.manifest.categories:
            before = None
        table = self.table(ledger.categories)

        def pixels(ids: npt.NDArray[np.int32]) -> npt.NDArray[Any]:
            return table[ids]

        names = PngNames.of_ledger(ledger)
        count = write_pngs(ledger, out, names, column="category_id", pixels=pixels, before=before)
        ledger.storage.write(join(out, self.file), self.key(ledger.categories))
        remove_others(ledger.storage, out, names)
        return [
            Artifact(self.file, self.name, len(ledger.categories)),
            Artifact("./", self.name, count),
        ]

    def check(self, ledger: Ledger, out: str, report: Report) -> None:
        """Compares the key and every PNG with the ledger."""
        if ledger.storage.read(join(out, self.file)) != self.key(ledger.categories):
            report("export-head", self.file)
        table = self.table(ledger.categories)
        check_pngs(
            ledger,
            out,
            PngNames.of_ledger(ledger),
            column="category_id",
            mode=grey(table.dtype),
            expected=lambda ids: table[ids],
            read=lambda picture: picture,
            report=report,
        )

    def table(self, categories: Categories) -> npt.NDArray[np.uint8 | np.uint16]:
        """Pixel value by category id, [0] for unlabelled; its dtype is the pictures'.

        Raises:
            ValueError: A category id does not fit into 16 bits.
        """
        values = self.values(categories)
        unlabelled = self.unlabelled(categories)
        highest = max([unlabelled, *values.values()])
        if highest > 65_535:
            raise ValueError(f"category {max(values)}: its value {highest} needs more than 16 bits")
        dtype = np.uint8 if highest <= 255 else np.uint16
        table = np.full(max([0, *values]) + 1, unlabelled, dtype)
        for category_id, value in values.items():
            table[category_id] = value
        return table

    def key(self, categories: Categories) -> bytes:
        """The text of categories.json."""
        values = self.values(categories)
        key = {
            "format": self.name,
            "convention": self.convention,
            "dtype": self.table(categories).dtype.name,
            "unlabelled": self.unlabelled(categories),
            "categories": [{"pixel": values[item.id], **item.to_coco()} for item in categories],
        }
        return orjson.dumps(key, option=orjson.OPT_INDENT_2) + b"\n"

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
