"""COCO instances with polygons: for readers that know no RLE; and with the pictures beside."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import orjson
import pyarrow as pa

from pipeline.ledger.ledger import Ledger
from pipeline.masks import codec
from pipeline.masks.polygons import Component, bridged, components_of
from pipeline.storage.uris import join
from schemas.rows import ImageRow, size_of

from .coco_instances import CocoInstances
from .coco_parts import IMAGE_COLUMNS, image_texts, looked_at
from .json_write import batches, quoted
from .pictures import PICTURE_COLUMNS, Pictures, flat_name, picture_job, picture_suffix
from .table import Artifact, Report, Traits
from .tree import OwnFile, Tree, labelled_images

_log = logging.getLogger(__name__)


class Loss:
    """How much of the masks their polygons keep, as pycocotools draws them; takes from threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._total = 0.0
        self._worst = 1.0

    def add(self, ious: list[float]) -> None:
        """Takes in the IoU of each mask with its polygons."""
        with self._lock:
            self._count += len(ious)
            self._total += sum(ious)
            self._worst = min([self._worst, *ious])

    @property
    def worst(self) -> float:
        """The lowest IoU of a mask with its polygons; 1 where there was none."""
        return self._worst

    def __str__(self) -> str:
        mean = self._total / self._count if self._count else 1.0
        return (
            f"{self._count:,} masks as polygons: mean IoU with the masks {mean:.4f}, "
            f"worst {self._worst:.4f}"
        )


class CocoPolygons(CocoInstances):
    """`instances_polygons.json`: one polygon a part of a mask, its holes joined to it by bridges.

    Coordinates are those of pixel edges: at tolerance 0 pycocotools draws every mask back to the
    pixel. The log says what `[export] tolerance` cost. Crowds keep their RLE, as COCO has it.
    """

    file = "instances_polygons.json"
    name = "coco-polygons"
    rows = 128  # corners are longer than runs
    options: tuple[str, ...] = ("tolerance", "source_uri")
    traits = Traits(masks="polygons", things_only=True, names=True)

    def __init__(self, tolerance: float = 0.0, source_uri: bool = False) -> None:
        super().__init__(source_uri)
        self._tolerance = tolerance
        self._loss = Loss()

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes the file; the log gives mean and worst IoU of polygons and masks."""
        self._loss = Loss()
        made = super().export(ledger, out)
        level = logging.INFO if self._loss.worst == 1 else logging.WARNING
        _log.log(level, "%s: %s", self.name, self._loss)
        return made

    def masks(self, batch: pa.RecordBatch) -> tuple[pa.StringArray | str, ...]:
        """JSON text of the polygons, for `concat`."""
        texts: list[bytes] = []
        ious: list[float] = []
        for row in batch.select(["rle", "bbox_xywh", "iscrowd"]).to_pylist():
            rle, (height, width) = row["rle"], row["rle"]["size"]
            if row["iscrowd"]:
                texts.append(orjson.dumps(rle))
                continue
            parts = components_of(
                rle["counts"], height, width, row["bbox_xywh"], tolerance=self._tolerance
            )
            polygons = coco_polygons(parts)
            drawn = codec.from_coco(polygons, height, width, canonical=False)
            ious.append(float(codec.iou([drawn], [rle["counts"]], height, width)[0, 0]))
            texts.append(orjson.dumps(polygons))
        self._loss.add(ious)
        return (pa.array(texts, pa.binary()).cast(pa.string()),)


def coco_polygons(parts: list[Component]) -> list[list[int]]:
    """One list [x0, y0, x1, y1, …] a component, at least three corners each."""
    rings = (bridged([part.outer, *part.holes]) for part in parts)
    return [np.asarray(ring).reshape(-1).tolist() for ring in rings]


class CocoFlat(CocoPolygons):
    """The pictures too: `images/*`, upright, under flat unique names, and `instances.json`.

    For readers that cannot open members of tars, pass over EXIF, cut names at dots, or take
    `a.jpg` and `a.png` for one. `source_file_name` of an entry is the ledger's `file_name`.
    """

    folder = "coco-flat"
    owns = "images"
    file = "instances.json"
    name = "coco-flat"
    options: tuple[str, ...] = ("tolerance",)
    traits = Traits(masks="polygons", things_only=True, pictures=True)

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes the pictures, then the file, then removes stale pictures."""
        tree = Tree(ledger.storage, join(out, "images"))
        count = tree.write(_pictures(ledger, Pictures(ledger)))
        made = super().export(ledger, out)
        tree.tidy()
        return [*made, Artifact("images/", self.name, count)]

    def check(self, ledger: Ledger, out: str, report: Report) -> None:
        """Compares the file with the ledger, entry by entry, and the pictures' sizes."""
        super().check(ledger, out, report)
        Tree(ledger.storage, join(out, "images")).check(_pictures(ledger, None), report)

    def images(self, ledger: Ledger) -> Iterator[pa.StringArray]:
        """JSON text of the images' entries."""
        wanted = [*dict.fromkeys([*IMAGE_COLUMNS, *PICTURE_COLUMNS])]
        for table in ledger.images(wanted):
            for batch in batches(looked_at(table), "file_name"):
                rows: list[Any] = batch.to_pylist()
                whole = [cast(ImageRow, {**dict.fromkeys(PICTURE_COLUMNS), **row}) for row in rows]
                names = [flat_name(row, picture_suffix(row)) for row in whole]
                place = batch.schema.get_field_index("exif_orientation")
                turned = pa.nulls(len(batch), pa.int8())
                plain = batch.set_column(place, "exif_orientation", turned)
                more = ',"source_file_name":', quoted(batch["file_name"])
                yield image_texts(plain, quoted(pa.array(names, pa.string())), more)


def _pictures(ledger: Ledger, pictures: Pictures | None) -> Iterator[OwnFile]:
    for row, _ in labelled_images(ledger, PICTURE_COLUMNS, ()):
        size = size_of(row)
        name = flat_name(row, picture_suffix(row))
        yield OwnFile(name, picture_job(pictures, row), size)
