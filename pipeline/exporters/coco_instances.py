"""COCO instances JSON: one annotation a thing, masks as compressed RLE."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipeline.ledger import Ledger
from pipeline.storage import join
from schemas.categories import Category
from schemas.records import Task

from .coco_parts import check_coco, head, image_entries, rle_pieces, things
from .json_file import END, write_object
from .json_text import batches, concat, items, member, numbers
from .table import Artifact, Report
from .threads import bounded_map


class CocoInstances:
    """`instances.json`. Stuff is left out: it has no instances (see coco-panoptic, semantic-png).

    Every annotation has iscrowd 0, for COCO's crowds are regions to ignore, and RLE rather than
    polygons, for polygons fill holes and shrink masks.
    """

    tasks: tuple[Task, ...] = ("instance", "panoptic")
    folder = "coco"
    owns = None
    file = "instances.json"

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes `out`/instances.json."""
        written = write_object(
            ledger.storage,
            join(out, self.file),
            head(ledger, _things(ledger)),
            {"images": image_entries(ledger), "annotations": _entries(ledger)},
        )
        return [Artifact(self.file, "coco-instances", written["annotations"])]

    def check(self, ledger: Ledger, out: str, report: Report) -> None:
        """Compares the file with the ledger, entry by entry."""
        expected = head(ledger, _things(ledger))
        check_coco(ledger, join(out, self.file), expected, "annotation", _entries(ledger), report)


def _things(ledger: Ledger) -> list[Category]:
    return [item for item in ledger.categories if item.isthing]


def _entries(ledger: Ledger) -> Iterator[pa.StringArray]:
    columns = [
        "annotation_id",
        "image_id",
        "category_id",
        "isthing",
        "area",
        "bbox_xywh",
        "rle",
        "score",
    ]
    tables = ledger.annotations(columns)
    pieces = (piece for table in tables for piece in batches(things(table), "rle"))
    return bounded_map(_texts, pieces, threads=2)


def _texts(batch: pa.RecordBatch) -> pa.StringArray:
    x, y, w, h = items(batch["bbox_xywh"])
    return concat(
        *('{"id":', numbers(batch["annotation_id"])),
        *(',"image_id":', numbers(batch["image_id"])),
        *(',"category_id":', numbers(batch["category_id"])),
        *(',"segmentation":', *rle_pieces(batch["rle"])),
        *(',"area":', numbers(batch["area"])),
        *(',"bbox":[', x, ",", y, ",", w, ",", h, '],"iscrowd":0'),
        *member("score", numbers(batch["score"])),
        "}" + END,
    )
