"""COCO results JSON: what `COCO.loadRes` reads and an evaluation server takes."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipeline.ledger import Ledger
from pipeline.storage import join
from schemas.records import Task

from .coco_parts import rle_pieces, things
from .json_file import END, write_list
from .json_lines import compare, list_entries
from .json_text import batches, compute, concat, numbers
from .table import Artifact, Report
from .threads import bounded_map


class CocoResults:
    """`results.json`: a bare list, `[]` for a dataset without things (which loadRes refuses).

    There is no `bbox`: loadRes would take areas from the boxes. A thing without a score gets 1,
    for loadRes demands one.
    """

    tasks: tuple[Task, ...] = ("instance", "panoptic")
    folder = "coco"
    owns = None
    file = "results.json"

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes `out`/results.json."""
        count = write_list(ledger.storage, join(out, self.file), _entries(ledger))
        return [Artifact(self.file, "coco-results", count)]

    def check(self, ledger: Ledger, out: str, report: Report) -> None:
        """Compares the file with the ledger, entry by entry."""
        with ledger.storage.open(join(out, self.file)) as file:
            lines = list_entries(file)
            compare("export-annotations", "detection of image", lines, _entries(ledger), report)


def _entries(ledger: Ledger) -> Iterator[pa.StringArray]:
    tables = ledger.annotations(["image_id", "category_id", "isthing", "rle", "score"])
    pieces = (piece for table in tables for piece in batches(things(table), "rle"))
    return bounded_map(_texts, pieces, threads=2)


def _texts(batch: pa.RecordBatch) -> pa.StringArray:
    return concat(
        *('{"image_id":', numbers(batch["image_id"])),
        *(',"category_id":', numbers(batch["category_id"])),
        *(',"segmentation":', *rle_pieces(batch["rle"])),
        *(',"score":', compute.fill_null(numbers(batch["score"]), "1"), "}" + END),
    )
