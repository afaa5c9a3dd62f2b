"""YOLO: pictures and text labels by split; objects as polygons or, in yolo-detect, boxes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from pipeline.ledger.ledger import Ledger
from pipeline.masks.polygons import bridged, components_of
from pipeline.storage.uris import join
from schemas.records import Task
from schemas.rows import AnnotationRow, size_of

from .pictures import PICTURE_COLUMNS, Pictures, flat_name, picture_job, picture_suffix
from .table import Artifact, Report, Traits
from .tree import OwnFile, Tree, labelled_images

_SPLITS = ("train", "val", "test")


class YoloSeg:
    """`data.yaml`, `images/<split>/` and `labels/<split>/`, as ultralytics' documentation has it.

    A line an object: the category's number and the corners of one polygon, divided by the
    picture's width and height. Holes and further parts are joined to it by bridges. Categories
    are the things, numbered from 0 in the table's order; stuff and crowds are left out.
    """

    tasks: tuple[Task, ...] = ("instance", "panoptic")
    folder = "yolo-seg"
    owns = ""
    file = "data.yaml"
    options: tuple[str, ...] = ("tolerance",)
    traits = Traits(masks="polygons", things_only=True, pictures=True)

    def __init__(self, tolerance: float = 0.0) -> None:
        self._tolerance = tolerance

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes pictures and labels, then data.yaml, then removes stale files."""
        tree = Tree(ledger.storage, out)
        splits: set[str] = set()
        count = tree.write(self._files(ledger, splits, Pictures(ledger)))
        ledger.storage.write(join(out, self.file), _data_yaml(ledger, splits))
        tree.tidy()
        return [
            Artifact(self.file, self.folder, len(_names(ledger))),
            Artifact("./", self.folder, count // 2),
        ]

    def check(self, ledger: Ledger, out: str, report: Report) -> None:
        """Compares every label with the ledger, and the pictures' sizes."""
        splits: set[str] = set()
        Tree(ledger.storage, out).check(self._files(ledger, splits, None), report)
        if ledger.storage.read(join(out, self.file)) != _data_yaml(ledger, splits):
            report("export-head", self.file)

    def line(self, number: int, item: AnnotationRow, height: int, width: int) -> str:
        """An object's line."""
        parts = components_of(
            item["rle"]["counts"], height, width, item["bbox_xywh"], tolerance=self._tolerance
        )
        ring = bridged([ring for part in parts for ring in (part.outer, *part.holes)])
        return f"{number} {_decimals(ring / np.array((width, height)))}\n"

    def _files(
        self, ledger: Ledger, splits: set[str], pictures: Pictures | None
    ) -> Iterator[OwnFile]:
        numbers = {item.id: place for place, item in enumerate(_things(ledger))}
        columns = ["category_id", "bbox_xywh", "rle"]
        for row, items in labelled_images(ledger, PICTURE_COLUMNS, columns, things=True):
            split = row["split"] or _SPLITS[0]
            splits.add(split)
            name = flat_name(row, "")
            size = size_of(row)
            yield OwnFile(f"labels/{split}/{name}.txt", partial(self._label, numbers, items, size))
            path = f"images/{split}/{name}{picture_suffix(row)}"
            yield OwnFile(path, picture_job(pictures, row), size)

    def _label(
        self, numbers: dict[int, int], items: Sequence[AnnotationRow], size: tuple[int, int]
    ) -> bytes:
        return "".join(
            self.line(numbers[item["category_id"]], item, *size) for item in items
        ).encode()


class YoloDetect(YoloSeg):
    """The same with boxes: number, centre x and y, width, height, all divided by the picture's."""

    folder = "yolo-detect"
    options: tuple[str, ...] = ()
    traits = Traits(masks="boxes", things_only=True, pictures=True)

    def line(self, number: int, item: AnnotationRow, height: int, width: int) -> str:
        """An object's line."""
        x, y, w, h = item["bbox_xywh"]
        box = np.array([[(x + w / 2) / width, (y + h / 2) / height], [w / width, h / height]])
        return f"{number} {_decimals(box)}\n"


def _decimals(values: Any) -> str:
    return " ".join(f"{value:.6f}" for value in values.reshape(-1).tolist())


def _things(ledger: Ledger) -> list[Any]:
    return [item for item in ledger.categories if item.isthing]


def _names(ledger: Ledger) -> list[str]:
    return [item.name for item in _things(ledger)]


def _quoted(name: str) -> str:
    """A name as YAML's quoted string: JSON's, but for what YAML calls not printable."""
    text = json.dumps(name, ensure_ascii=False)
    return _NOT_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def _data_yaml(ledger: Ledger, splits: set[str]) -> bytes:
    """The text of data.yaml. Readers insist on train and val; JSON's strings are YAML's too."""
    there = [split for split in _SPLITS if split in splits] or [_SPLITS[0]]
    lines = ["# made by maskmill; no `path`: images/ and labels/ lie beside this file\n"]
    for split in _SPLITS:
        if split in there:
            lines.append(f"{split}: images/{split}\n")
        elif split != "test":
            note = f"  # no {split} split in the dataset ([split] makes one)"
            lines.append(f"{split}: images/{there[0]}{note}\n")
    lines.append("names:\n" if _names(ledger) else "names: {}\n")
    lines += [f"  {number}: {_quoted(name)}\n" for number, name in enumerate(_names(ledger))]
    return "".join(lines).encode()
