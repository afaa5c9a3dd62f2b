"""What the COCO files share: the head, the image entries, and the rows that belong together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from pipeline.ledger.ledger import Ledger
from pipeline.ledger.views import is_copy
from pipeline.storage.uris import join
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


IMAGE_COLUMNS = ("image_id", "width", "height", "file_name", "status", "exif_orientation", *_MORE)


def image_entries(ledger: Ledger, *, source_uri: bool = False) -> Iterator[pa.StringArray]:
    """JSON text of COCO's `images`, in the ledger's order.

    `split` and `parent_image_id` are there where the ledger has them: readers of COCO let pass
    what they do not know, and without them nobody could tell copies and splits apart.
    `exif_orientation` is there where the file is stored turned: width, height and masks are those
    of the upright picture, and a reader that passes over EXIF must be able to know.

    Args:
        ledger: The dataset.
        source_uri: Also `source_uri`: the file, tar or Parquet that holds the image's bytes.
    """
    for table in ledger.images(list(IMAGE_COLUMNS)):
        for batch in batches(looked_at(table), "file_name"):
            source = _source(ledger, batch) if source_uri else ()
            yield image_texts(batch, quoted(batch["file_name"]), source)


def image_texts(
    batch: pa.RecordBatch, names: pa.StringArray, more: tuple[pa.StringArray | str, ...] = ()
) -> pa.StringArray:
    """JSON text of some images' entries.

    Args:
        batch: With the columns `IMAGE_COLUMNS`.
        names: Their `file_name` as JSON.
        more: Further members, for `concat`.
    """
    return concat(
        *('{"id":', numbers(batch["image_id"])),
        *(',"width":', numbers(batch["width"])),
        *(',"height":', numbers(batch["height"])),
        *(',"file_name":', names),
        *(piece for name in _MORE for piece in _member(batch, name)),
        *_turned(batch),
        *more,
        "}" + END,
    )


def _turned(batch: pa.RecordBatch) -> tuple[pa.StringArray | str, ...]:
    orientation = batch["exif_orientation"]
    turned = compute.fill_null(compute.greater(orientation, 1), False)
    if not compute.any(turned, min_count=0).as_py():
        return ()
    upright = pa.nulls(len(batch), pa.string())
    return member("exif_orientation", compute.if_else(turned, numbers(orientation), upright))


def _source(ledger: Ledger, batch: pa.RecordBatch) -> tuple[pa.StringArray | str, ...]:
    wanted = [name for name in ("file_name", "parent_image_id") if name in batch.schema.names]
    texts = [
        source_uri_of(ledger.uri if is_copy(row) else ledger.manifest.input, row["file_name"])
        for row in batch.select(wanted).to_pylist()
    ]
    return ',"source_uri":', quoted(pa.array(texts, pa.string()))


def source_uri_of(root: str, file_name: str) -> str:
    """URI of the file that holds an image's bytes: of a tar or Parquet file, not of its member.

    Args:
        root: The input as it was given: a folder, or one file, tar or Parquet.
        file_name: Of the image.
    """
    outer = _CONTAINER.match(file_name)
    path = outer[0].removesuffix("/") if outer else file_name
    folder = root if not root.endswith("/" + path) else root[: -len(path) - 1]
    return join(folder, path) if folder else path


_CONTAINER = re.compile(r".*?\.(?:tar|tar\.gz|tgz|tar\.bz2|tar\.xz|tar\.zst|parquet)/", re.DOTALL)


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
    *,
    images: Iterable[pa.StringArray],
) -> None:
    """Compares a COCO file with what the ledger would give.

    Args:
        ledger: The dataset.
        uri: Of the file.
        expected_head: Of `head`.
        kind: What the ids are of that its annotations begin with.
        annotations: Pieces as the exporter makes them.
        report: Takes what differs.
        images: Pieces of the images' entries, likewise.

    Raises:
        ValueError: The file is damaged.
    """
    with ledger.storage.open(uri) as file:
        lines = JsonLines(file, "images")
        if lines.head != orjson.loads(orjson.dumps(expected_head)):
            report("export-head", uri.rpartition("/")[2])
        compare_entries("export-images", "image", lines.entries("images"), images, report)
        compare_entries(
            "export-annotations", kind, lines.entries("annotations"), annotations, report
        )
