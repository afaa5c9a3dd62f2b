"""What the COCO files share: the head, the image entries, and the rows that belong together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from pipeline.ledger.ledger import Ledger
from schemas.categories import Category
from schemas.records import Status

from .json_check import JsonLines, compare_entries
from .json_write import END, batches, compute, concat, items, member, numbers, quoted, rle_escaped
from .table import Report

_MORE = ("split", "parent_image_id")
_LOOKED_AT = pa.array([str(Status.OK), str(Status.EMPTY)])


def head(ledger: Ledger, categories: Iterable[Category]) -> dict[str, Any]:
    """info, licenses and categories of a COCO file. No clock: same dataset, same bytes.

    `licenses` is COCO's list of the pictures' licences, of which we know nothing; the weights'
    licence is in info.model.
    """
    manifest = ledger.manifest
    return {
        "info": {
            "description": f"labelled by maskmill with {manifest.model.get('name', '')}",
            "version": str(manifest.version),
            "task": manifest.task,
            "config_fingerprint": manifest.config_fingerprint,
            "model": dict(sorted(manifest.model.items())),
        },
        "licenses": [],
        "categories": [item.to_coco() for item in categories],
    }


def looked_at(images: pa.Table) -> pa.Table:
    """The images that were labelled, `empty` ones included.

    A failed image has no size that COCO's readers could use and no known content: as an image
    without annotations it would teach a model that there is nothing in it.
    """
    return images.filter(compute.is_in(images["status"], _LOOKED_AT))


def things(annotations: pa.Table) -> pa.Table:
    """The rows of things; the table itself, not a copy, where there is no stuff."""
    isthing = annotations["isthing"]
    return annotations if compute.all(isthing, min_count=0).as_py() else annotations.filter(isthing)


def image_entries(ledger: Ledger) -> Iterator[pa.StringArray]:
    """JSON text of COCO's `images`, in the ledger's order.

    `split` and `parent_image_id` are there where the ledger has them: readers of COCO let pass
    what they do not know, and without them nobody could tell copies and splits apart.
    """
    columns = ["image_id", "width", "height", "file_name", "status", *_MORE]
    for table in ledger.images(columns):
        for batch in batches(looked_at(table), "file_name"):
            yield concat(
                *('{"id":', numbers(batch["image_id"])),
                *(',"width":', numbers(batch["width"])),
                *(',"height":', numbers(batch["height"])),
                *(',"file_name":', quoted(batch["file_name"])),
                *(piece for name in _MORE for piece in _member(batch, name)),
                "}" + END,
            )


def _member(batch: pa.RecordBatch, name: str) -> tuple[pa.StringArray | str, ...]:
    """A member of an image's entry, nothing where no row of the batch has it."""
    if name not in batch.schema.names or batch[name].null_count == len(batch):
        return ()
    text = batch[name].cast(pa.string())
    return member(name, concat('"', text, '"') if name == "split" else text)


@dataclass(frozen=True, slots=True)
class LabelledPart:
    """The labelled images of one part and where their annotation rows are.

    Attributes:
        images: n rows.
        annotations: The part's rows, grouped by image in the images' order.
        bounds: n + 1 row numbers; image i has the annotations bounds[i]…bounds[i+1].
    """

    images: pa.Table
    annotations: pa.Table
    bounds: npt.NDArray[np.int64]


def labelled_parts(
    ledger: Ledger, images: Iterable[str], annotations: Iterable[str]
) -> Iterator[LabelledPart]:
    """Both tables of each part, matched row by row.

    Args:
        ledger: The dataset.
        images: Columns wanted besides image_id, status and num_segments.
        annotations: Columns wanted besides image_id.

    Raises:
        ValueError: A part's annotations are not in its images' order.
    """
    of_images = dict.fromkeys(["image_id", "status", "num_segments", *images])
    of_annotations = dict.fromkeys(["image_id", *annotations])
    pairs = zip(
        ledger.manifest.parts,
        ledger.images(list(of_images)),
        ledger.annotations(list(of_annotations)),
        strict=True,
    )
    for part, table, rows in pairs:
        kept = looked_at(table)
        sizes = kept["num_segments"].to_numpy()
        expected = np.repeat(kept["image_id"].to_numpy(), sizes)
        if not np.array_equal(expected, rows["image_id"].to_numpy()):
            raise ValueError(
                f"part {part.name}: annotations do not follow the images; run jobs.validate"
            )
        yield LabelledPart(kept, rows, np.append(0, np.cumsum(sizes, dtype=np.int64)))


def rle_pieces(column: pa.StructArray) -> tuple[pa.StringArray | str, ...]:
    """JSON text of {"size":[height,width],"counts":"…"}, for `concat`."""
    height, width = items(column.field("size"))
    counts = rle_escaped(column.field("counts"))
    return '{"size":[', height, ",", width, '],"counts":"', counts, '"}'


def check_coco(
    ledger: Ledger,
    uri: str,
    expected_head: Mapping[str, Any],
    kind: str,
    annotations: Iterable[pa.StringArray],
    report: Report,
) -> None:
    """Compares a COCO file with what the ledger would give.

    Args:
        ledger: The dataset.
        uri: Of the file.
        expected_head: Of `head`.
        kind: What the ids are of that its annotations begin with.
        annotations: Pieces as the exporter makes them.
        report: Takes what differs.

    Raises:
        ValueError: The file is damaged.
    """
    with ledger.storage.open(uri) as file:
        lines = JsonLines(file, "images")
        if lines.head != orjson.loads(orjson.dumps(expected_head)):
            report("export-head", uri.rpartition("/")[2])
        compare_entries(
            "export-images", "image", lines.entries("images"), image_entries(ledger), report
        )
        compare_entries(
            "export-annotations", kind, lines.entries("annotations"), annotations, report
        )
