"""Category maps in other data sets' own numbers: PASCAL VOC, Cityscapes, ADE20K."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from PIL import Image

from pipeline.ledger.ledger import Ledger
from pipeline.masks.rle import paint_runs
from pipeline.storage.uris import join
from schemas.categories import Categories
from schemas.records import Task

from .png_folder import PngJob, PngNames, named, pictures
from .table import Artifact, Report, Traits
from .tree import OwnFile, Tree

_TABLES = Path(__file__).resolve().parents[1] / "models" / "tables"
"""Names, synonyms, ids and colours as the models of these data sets have them: data, not code."""


class VocMaps:
    """PASCAL VOC's SegmentationClass: 0 background, 1 aeroplane … 8 cat … 20 tvmonitor, 255 void.

    A category is VOC's by its name or a synonym. What the dataset knows and VOC does not is
    background, as in VOC's own maps; pixels of no segment are void. PNGs have a palette, VOC's:
    Pillow reads the numbers, a viewer shows colours; OpenCV would turn them into colours.
    """

    tasks: tuple[Task, ...] = ("semantic", "panoptic")
    folder = "voc"
    owns = ""
    file = "categories.json"
    options: tuple[str, ...] = ()
    traits = Traits(masks="mapped", label_pngs=1)
    table = "voc-21"
    suffix = ".png"
    rest = 0
    """What becomes of categories that the data set does not know."""
    unlabelled = 255
    """What becomes of pixels of no segment."""

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes a PNG an image, then categories.json, then removes stale PNGs.

        Raises:
            ValueError: No category of the dataset is one of theirs.
        """
        key = self._key(ledger.categories)
        tree = Tree(ledger.storage, out)
        count = tree.write(self._files(ledger))
        ledger.storage.write(join(out, self.file), key)
        tree.tidy()
        return [
            Artifact(self.file, self.folder, len(ledger.categories)),
            Artifact("./", self.folder, count),
        ]

    def check(self, ledger: Ledger, out: str, report: Report) -> None:
        """Compares the key and every PNG with the ledger."""
        if ledger.storage.read(join(out, self.file)) != self._key(ledger.categories):
            report("export-head", self.file)
        Tree(ledger.storage, out).check(self._files(ledger), report)

    def number(self, table_id: int) -> int:
        """The data set's own number of a category of our table."""
        return table_id - 1

    def numbers(self, categories: Categories) -> dict[int, int]:
        """Category id → number in the maps, for those that the data set knows.

        Raises:
            ValueError: It knows none.
        """
        known = {
            name.casefold(): self.number(row["id"])
            for row in self._rows()
            for name in (row["name"], *row.get("synonyms", ()))
            if not row.get("is_background")
        }
        found = {
            item.id: known[item.name.casefold()]
            for item in categories
            if item.name.casefold() in known
        }
        if not found and not any(item.is_background for item in categories):
            names = ", ".join(list(known)[:5])
            raise ValueError(
                f"format {self.folder}: no category of this dataset is one of its ({names}, …)"
            )
        return found

    def _rows(self) -> list[dict[str, Any]]:
        return json.loads((_TABLES / f"{self.table}.json").read_bytes())["categories"]

    def _files(self, ledger: Ledger) -> Iterator[OwnFile]:
        names = PngNames.of_ledger(ledger)
        numbers = self.numbers(ledger.categories)
        table = np.full(max([0, *(item.id for item in ledger.categories)]) + 1, self.rest, np.uint8)
        table[0] = self.unlabelled
        for category_id, number in numbers.items():
            table[category_id] = number
        palette = self._palette()
        for job in pictures(ledger, "category_id"):
            path = named(names[job.file_name], self.suffix)
            yield OwnFile(path, partial(_png, job, table, palette))

    def _palette(self) -> list[int]:
        """768 numbers: red, green and blue of each value; void is VOC's own cream."""
        colors = np.zeros((256, 3), np.uint8)
        for row in self._rows():
            value = int(row["color"][1:], 16)
            colors[self.number(row["id"])] = value >> 16, value >> 8 & 255, value & 255
        colors[255] = 224, 224, 192
        return colors.reshape(-1).tolist()

    def _key(self, categories: Categories) -> bytes:
        numbers = self.numbers(categories)
        rows = [
            {
                "pixel": numbers.get(item.id, self.rest),
                "known": item.id in numbers,
                **item.to_coco(),
            }
            for item in categories
        ]
        key = {
            "format": self.folder,
            "unlabelled": self.unlabelled,
            "rest": self.rest,
            "categories": rows,
        }
        return orjson.dumps(key, option=orjson.OPT_INDENT_2) + b"\n"


class CityscapesMaps(VocMaps):
    """Cityscapes' `*_gtFine_labelIds.png`: 7 road … 26 car … 33 bicycle, 0 unlabelled.

    These are its label ids, from which its own scripts make train ids. What Cityscapes does not
    know is unlabelled, and counts in no figure.
    """

    folder = "cityscapes"
    table = "cityscapes-19"
    suffix = "_gtFine_labelIds.png"
    unlabelled = 0

    def number(self, table_id: int) -> int:
        """The data set's own number of a category of our table."""
        return table_id


class Ade20kMaps(VocMaps):
    """ADE20K's scene parsing maps (MIT SceneParse150): 1 wall … 150 flag, 0 other."""

    folder = "ade20k"
    table = "ade20k-150"
    unlabelled = 0

    def number(self, table_id: int) -> int:
        """The data set's own number of a category of our table."""
        return table_id


def _png(job: PngJob, table: npt.NDArray[np.uint8], palette: list[int]) -> bytes:
    try:
        ids = paint_runs(job.texts, job.values, job.height, job.width)
    except ValueError as error:
        raise ValueError(f"{job.file_name}: {error}; run jobs.validate") from error
    image = Image.fromarray(table[ids], mode="P")
    image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()
