"""CSV: one line a segment, for spreadsheets and pandas."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from pipeline.ledger.ledger import Ledger
from pipeline.storage.uris import join
from schemas.records import Task
from schemas.tables import ANNOTATIONS, IMAGES

from .coco_parts import labelled_parts
from .json_write import compute, staged
from .table import Artifact, Report, Traits

_ROWS = 8_192
_OF_IMAGE = ("file_name", "width", "height", "split")
_OF_SEGMENT = (
    "annotation_id", "image_id", "segment_id", "task", "category_id", "category", "isthing",
    "iscrowd", "area", "bbox_xywh", "score", "prompt", "rle",
)  # fmt: skip


class CsvTable:
    """`segments.csv`: UTF-8, a header, one line a segment with its image's name and size.

    The box is `bbox_x`, `bbox_y`, `bbox_w`, `bbox_h`; the mask is `rle_counts`, COCO's string for
    the picture's height × width. Images without a segment have no line. A null is an empty field.
    """

    tasks: tuple[Task, ...] = ("instance", "panoptic", "semantic")
    folder = "csv"
    owns = None
    file = "segments.csv"
    options: tuple[str, ...] = ()
    traits = Traits()

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes `out`/segments.csv."""
        count = 0
        with staged(ledger.storage, join(out, self.file)) as file:
            for text, rows in _lines(ledger):
                file.write(text)
                count += rows
        return [Artifact(self.file, "csv", count)]

    def check(self, ledger: Ledger, out: str, report: Report) -> None:
        """Compares the file with the ledger, piece by piece."""
        with ledger.storage.open(join(out, self.file)) as file:
            for place, (text, _) in enumerate(_lines(ledger)):
                if file.read(len(text)) != text:
                    report("export-annotations", f"{self.file}: differs in piece {place + 1}")
                    return
            if file.read(1):
                report("export-annotations", f"{self.file}: has lines too many")


def _lines(ledger: Ledger) -> Iterator[tuple[bytes, int]]:
    """The file's text in pieces of bounded size, and how many segments each holds."""
    first = True
    for part in labelled_parts(ledger, _OF_IMAGE, _OF_SEGMENT):
        owner = np.repeat(np.arange(len(part.images)), np.diff(part.bounds))
        for start in range(0, max(len(part.annotations), 1), _ROWS):
            rows = part.annotations.slice(start, _ROWS)
            images = part.images.take(pa.array(owner[start : start + _ROWS]))
            yield _text(rows, images, header=first), len(rows)
            first = False
    if first:
        yield _text(ANNOTATIONS.empty_table(), IMAGES.empty_table(), header=True), 0


def _text(rows: pa.Table, images: pa.Table, *, header: bool) -> bytes:
    columns: dict[str, Any] = {}
    for name in ("image_id", *_OF_IMAGE, *_OF_SEGMENT):
        table = images if name in _OF_IMAGE else rows
        values = table[name] if name in table.column_names else pa.nulls(len(rows), pa.string())
        if name == "bbox_xywh":
            for place, key in enumerate("xywh"):
                columns[f"bbox_{key}"] = compute.list_element(values, place)
        elif name == "rle":
            columns["rle_counts"] = compute.struct_field(values, "counts")
        else:
            columns[name] = values
    buffer = io.BytesIO()
    pacsv.write_csv(pa.table(columns), buffer, pacsv.WriteOptions(include_header=header))
    return buffer.getvalue()
