"""COCO instances JSON: one annotation a thing, masks as compressed RLE."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipeline.ledger.ledger import Ledger
from pipeline.storage.uris import join
from schemas.categories import Category
from schemas.records import Task

from .coco_parts import check_coco, head, image_entries, rle_pieces, things
from .json_check import compare_entries, list_entries
from .json_write import (
    END,
    batches,
    compute,
    concat,
    items,
    member,
    numbers,
    quoted,
    write_list,
    write_object,
)
from .table import Artifact, Report, Traits
from .threads import bounded_map


class CocoInstances:
    """`instances.json`. Stuff is left out: it has no instances (see coco-panoptic, semantic-png).

    iscrowd is 0, for COCO's crowds are regions to ignore, unless a file of prompts had one. Masks
    are RLE rather than polygons, which fill holes and shrink masks. Where all annotations come from
    those of a file of prompts, they keep its ids.
    """

    tasks: tuple[Task, ...] = ("instance", "panoptic")
    folder = "coco"
    owns = None
    file = "instances.json"
    name = "coco-instances"
    rows = 8_192
    """Annotations that become text at once, at most."""
    options: tuple[str, ...] = ("source_uri",)
    traits = Traits(things_only=True, names=True)

    def __init__(self, source_uri: bool = False) -> None:
        self._source_uri = source_uri

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes `out`/instances.json."""
        written = write_object(
            ledger.storage,
            join(out, self.file),
            head(ledger, _things(ledger)),
            {"images": self.images(ledger), "annotations": self.entries(ledger)},
        )
        return [Artifact(self.file, self.name, written["annotations"])]

    def check(self, ledger: Ledger, out: str, report: Report) -> None:
        """Compares the file with the ledger, entry by entry."""
        expected = head(ledger, _things(ledger))
        check_coco(
            ledger,
            join(out, self.file),
            expected,
            "annotation",
            self.entries(ledger),
            report,
            images=self.images(ledger),
        )

    def images(self, ledger: Ledger) -> Iterator[pa.StringArray]:
        """JSON text of the images' entries."""
        return image_entries(ledger, source_uri=self._source_uri)

    def entries(self, ledger: Ledger) -> Iterator[pa.StringArray]:
        """JSON text of the annotations."""
        own = _own_ids(ledger)
        tables = (_named(table, own) for table in ledger.annotations(_COLUMNS))
        pieces = (piece for table in tables for piece in batches(things(table), "rle", self.rows))
        return bounded_map(self.texts, pieces, threads=2)

    def texts(self, batch: pa.RecordBatch) -> pa.StringArray:
        """JSON text of some annotations; safe to call from threads."""
        x, y, w, h = items(batch["bbox_xywh"])
        return concat(
            *('{"id":', numbers(batch["annotation_id"])),
            *(',"image_id":', numbers(batch["image_id"])),
            *(',"category_id":', numbers(batch["category_id"])),
            *(',"segmentation":', *self.masks(batch)),
            *(',"area":', numbers(batch["area"])),
            *(',"bbox":[', x, ",", y, ",", w, ",", h, '],"iscrowd":', numbers(batch["iscrowd"])),
            *member("score", numbers(batch["score"])),
            *_source_key(batch),
            "}" + END,
        )

    def masks(self, batch: pa.RecordBatch) -> tuple[pa.StringArray | str, ...]:
        """JSON text of the masks, for `concat`."""
        return rle_pieces(batch["rle"])


_COLUMNS = (
    "annotation_id", "image_id", "category_id", "isthing", "area", "bbox_xywh", "rle", "score",
    "iscrowd", "source_id", "source_key",
)  # fmt: skip


def _things(ledger: Ledger) -> list[Category]:
    return [item for item in ledger.categories if item.isthing]


def _own_ids(ledger: Ledger) -> bool:
    """Whether every annotation came from one of a file of prompts, no two from the same.

    Then the file's ids are kept, so that the export can take that file's place.
    """
    seen: list[pa.ChunkedArray] = []
    for table in ledger.annotations(["source_id"]):
        if "source_id" not in table.column_names or table["source_id"].null_count:
            return False
        seen.append(table["source_id"])
    ids = pa.chunked_array([chunk for column in seen for chunk in column.chunks], pa.int64())
    if not len(ids):
        return False
    lowest: int = compute.min(ids).as_py()
    return lowest >= 1 and compute.count_distinct(ids).as_py() == len(ids)


def _named(table: pa.Table, own: bool) -> pa.Table:
    if not own:
        return table
    place = table.schema.get_field_index("annotation_id")
    return table.set_column(place, "annotation_id", table["source_id"])


def _source_key(batch: pa.RecordBatch) -> tuple[pa.StringArray | str, ...]:
    """`"source_key"`: the id in a file of prompts that is no number, which COCO's `id` must be."""
    keys = batch["source_key"] if "source_key" in batch.schema.names else None
    if keys is None or keys.null_count == len(keys):
        return ("",)
    text = compute.if_else(compute.is_valid(keys), quoted(keys), pa.scalar(None, pa.string()))
    return member("source_key", text)


# COCO results JSON: what `COCO.loadRes` reads and an evaluation server takes.


class CocoResults:
    """`results.json`: a bare list, `[]` for a dataset without things (which loadRes refuses).

    There is no `bbox`: loadRes would take areas from the boxes. A thing without a score gets 1,
    for loadRes demands one.
    """

    tasks: tuple[Task, ...] = ("instance", "panoptic")
    folder = "coco"
    owns = None
    file = "results.json"
    options: tuple[str, ...] = ()
    traits = Traits(things_only=True)

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes `out`/results.json."""
        count = write_list(ledger.storage, join(out, self.file), _result_entries(ledger))
        return [Artifact(self.file, "coco-results", count)]

    def check(self, ledger: Ledger, out: str, report: Report) -> None:
        """Compares the file with the ledger, entry by entry."""
        with ledger.storage.open(join(out, self.file)) as file:
            lines = list_entries(file)
            compare_entries(
                "export-annotations", "detection of image", lines, _result_entries(ledger), report
            )


def _result_entries(ledger: Ledger) -> Iterator[pa.StringArray]:
    tables = ledger.annotations(["image_id", "category_id", "isthing", "rle", "score"])
    pieces = (piece for table in tables for piece in batches(things(table), "rle"))
    return bounded_map(_result_texts, pieces, threads=2)


def _result_texts(batch: pa.RecordBatch) -> pa.StringArray:
    return concat(
        *('{"image_id":', numbers(batch["image_id"])),
        *(',"category_id":', numbers(batch["category_id"])),
        *(',"segmentation":', *rle_pieces(batch["rle"])),
        *(',"score":', compute.fill_null(numbers(batch["score"]), "1"), "}" + END),
    )
