"""COCO instances JSON: one annotation a thing, masks as compressed RLE."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipeline.ledger import Ledger
from pipeline.storage import join
from schemas.records import Task

from .coco_parts import head, image_entries
from .json_file import END, write_object
from .json_text import batches, concat, items, member, numbers, rle_escaped
from .table import Artifact
from .threads import bounded_map


class CocoInstances:
    """`instances.json`. Stuff is left out: it has no instances (see coco-panoptic, semantic-png).

    Every annotation has iscrowd 0, for COCO's crowds are regions to ignore, and RLE rather than
    polygons, for polygons fill holes and shrink masks.
    """

    tasks: tuple[Task, ...] = ("instance", "panoptic")
    folder = "coco"
    owns = None

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes `out`/instances.json."""
        things = [item for item in ledger.categories if item.isthing]
        written = write_object(
            ledger.storage,
            join(out, "instances.json"),
            head(ledger, things),
            {"images": image_entries(ledger), "annotations": annotation_entries(ledger)},
        )
        return [Artifact("instances.json", "coco-instances", written["annotations"])]


def annotation_entries(ledger: Ledger) -> Iterator[pa.StringArray]:
    """JSON text of COCO's `annotations`, in the ledger's order."""
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
    pieces = (piece for table in tables for piece in batches(table.filter(table["isthing"]), "rle"))
    return bounded_map(_entries, pieces, threads=2)


def _entries(batch: pa.RecordBatch) -> pa.StringArray:
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


def rle_pieces(column: pa.StructArray) -> tuple[pa.StringArray | str, ...]:
    """JSON text of {"size":[height,width],"counts":"…"}, for `concat`."""
    height, width = items(column.field("size"))
    counts = rle_escaped(column.field("counts"))
    return '{"size":[', height, ",", width, '],"counts":"', counts, '"}'
