"""Label Studio: tasks with the labels as predictions, brush masks in its own code or polygons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from pipeline.ledger.ledger import Ledger
from pipeline.ledger.views import is_copy
from pipeline.masks.codec import mask_window
from pipeline.masks.polygons import bridged, components_of
from pipeline.storage.uris import join, scheme
from schemas.records import Task
from schemas.rows import AnnotationRow, ImageRow, LabelledRows, size_of

from .coco_parts import source_uri_of
from .json_check import compare_entries, list_entries
from .json_write import END, write_list
from .names import xml_name
from .table import Artifact, Report, Traits
from .threads import bounded_map
from .tree import labelled_images

_SIZES = (3, 4, 8, 16)
"""Bits that the length of a run may have; Label Studio's own choice."""

_BATCH = 64


class LabelStudio:
    """`tasks.json` to import, and `label_config.xml`, the labelling interface that goes with it.

    Each task is an image with one prediction: its segments with score and model version. Masks are
    brush strokes in Label Studio's run-length code, or polygons with `[export] shapes`: there a
    part is a shape of its own, and `meta` says which annotation it belongs to. Image URLs are
    `[export] url_prefix` + file name; without it s3:// inputs are named as they are, and local
    ones through Label Studio's local file serving below the input's parent folder.
    """

    tasks: tuple[Task, ...] = ("instance", "panoptic", "semantic")
    folder = "label-studio"
    owns = ""
    file = "tasks.json"
    options: tuple[str, ...] = ("shapes", "tolerance", "url_prefix")
    traits = Traits(names=True)

    def __init__(self, shapes: str = "mask", tolerance: float = 0.0, url_prefix: str = "") -> None:
        self._polygons = shapes == "polygon"
        self._tolerance = tolerance
        self._prefix = url_prefix

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes `out`/label_config.xml, then `out`/tasks.json."""
        ledger.storage.write(join(out, "label_config.xml"), self._config(ledger))
        count = write_list(ledger.storage, join(out, self.file), self._entries(ledger))
        return [Artifact(self.file, "label-studio", count), Artifact("./", "label-studio", 1)]

    def check(self, ledger: Ledger, out: str, report: Report) -> None:
        """Compares the file with the ledger, task by task."""
        if ledger.storage.read(join(out, "label_config.xml")) != self._config(ledger):
            report("export-head", "label_config.xml")
        with ledger.storage.open(join(out, self.file)) as file:
            compare_entries(
                "export-annotations",
                "task",
                list_entries(file),
                self._entries(ledger),
                report,
            )

    def _entries(self, ledger: Ledger) -> Iterator[pa.StringArray]:
        images = ["image_id", "file_name", "width", "height", "split", "parent_image_id"]
        columns = [
            "annotation_id", "category", "score", "rle", "bbox_xywh", "model", "model_revision"
        ]  # fmt: skip

        def text(found: LabelledRows) -> bytes:
            return orjson.dumps(self._task(ledger, *found)) + END.encode()

        texts: list[bytes] = []
        for entry in bounded_map(text, labelled_images(ledger, images, columns)):
            texts.append(entry)
            if len(texts) == _BATCH:
                yield pa.array(texts, pa.binary()).cast(pa.string())
                texts = []
        yield pa.array(texts, pa.binary()).cast(pa.string())

    def _task(
        self, ledger: Ledger, row: ImageRow, items: Sequence[AnnotationRow]
    ) -> dict[str, Any]:
        scores = [item["score"] for item in items if item["score"] is not None]
        first = items[0] if items else {"model": ledger.manifest.model.get("name", "")}
        version = "@".join(filter(None, (first["model"], first.get("model_revision"))))
        prediction = {
            "model_version": version,
            **({"score": round(sum(scores) / len(scores), 6)} if scores else {}),
            "result": [found for item in items for found in self._results(row, item)],
        }
        data = {
            "image": self._url(ledger, row),
            "image_id": row["image_id"],
            "file_name": row["file_name"],
        }
        if row["split"]:
            data["split"] = row["split"]
        return {"id": row["image_id"], "data": data, "predictions": [prediction]}

    def _results(self, row: ImageRow, item: AnnotationRow) -> Iterator[dict[str, Any]]:
        height, width = size_of(row)
        common = {
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "meta": {"annotation_id": item["annotation_id"]},
            **({} if item["score"] is None else {"score": round(item["score"], 6)}),
        }
        counts = item["rle"]["counts"]
        if not self._polygons:
            rle = brush_rle(counts, height, width, item["bbox_xywh"])
            value = {"format": "rle", "rle": rle, "brushlabels": [xml_name(item["category"])]}
            yield {
                "id": str(item["annotation_id"]),
                "type": "brushlabels",
                **common,
                "value": value,
            }
            return
        parts = components_of(counts, height, width, item["bbox_xywh"], tolerance=self._tolerance)
        for place, part in enumerate(parts):
            ring = bridged([part.outer, *part.holes]) * (100 / np.array((width, height)))
            value = {
                "points": ring.round(6).tolist(),
                "polygonlabels": [xml_name(item["category"])],
            }
            key = f"{item['annotation_id']}-{place}"
            yield {"id": key, "type": "polygonlabels", **common, "value": value}

    def _url(self, ledger: Ledger, row: ImageRow) -> str:
        name = row["file_name"]
        if self._prefix:
            return self._prefix + quote(name)
        root = ledger.uri if is_copy(row) else ledger.manifest.input
        uri = source_uri_of(root, name)
        if scheme(uri) != "file":
            return uri
        top = (root if uri != root else root.rpartition("/")[0]).rpartition("/")[0]
        return "/data/local-files/?d=" + quote(uri[len(top) :].lstrip("/"))

    def _config(self, ledger: Ledger) -> bytes:
        kind = "PolygonLabels" if self._polygons else "BrushLabels"
        labels = "".join(
            f"    <Label value={quoteattr(xml_name(item.name))} "
            f"background={quoteattr(item.color)}/>\n"
            for item in ledger.categories
        )
        return (
            '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
            f'  <{kind} name="label" toName="image">\n{labels}  </{kind}>\n</View>\n'
        ).encode()


def brush_rle(counts: str | bytes, height: int, width: int, bbox_xywh: Sequence[int]) -> list[int]:
    """A mask in the run-length code of Label Studio's brush: thi.ng's rle-pack of RGBA bytes.

    The picture is read row by row, each pixel as four bytes of 0 or 255. A stream of bits holds
    the number of bytes (32), the word size − 1 (5), the four possible sizes of a length − 1 (4
    each), then for each run: 1 for a run, the number of its size (2), its length − 1, its value
    (8). Source: github.com/thi-ng/umbrella, packages/rle-pack; `label_studio_sdk`'s `decode_rle`
    reads it.

    Args:
        counts: COCO's compressed RLE of the whole picture's mask.
        height: Of the picture, pixels.
        width: Of the same.
        bbox_xywh: The mask's tight box.

    Returns:
        Bytes as integers 0…255.

    Raises:
        ValueError: The picture has 2**30 pixels or more, or the RLE is malformed.
    """
    if 4 * height * width >= 1 << 32:
        raise ValueError(f"Label Studio's brush holds no picture of {width}x{height} pixels")
    lengths, inside = _row_runs(counts, height, width, bbox_xywh)
    lengths = lengths * 4
    longest = 1 << _SIZES[-1]
    pieces = -(-lengths // longest)
    values = np.repeat(inside, pieces)
    split = np.full(int(pieces.sum()), longest, np.int64)
    split[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * longest
    choice = np.searchsorted(np.array([1 << size for size in _SIZES]), split)
    size = np.array(_SIZES)[choice]
    # Each run's bits as one number: 1, choice (2), length − 1 (size), value (8); at most 27 bits.
    words = ((4 | choice) << (size + 8)) | ((split - 1) << 8) | np.where(values, 255, 0)
    bits_of = size + 11
    spread = (words[:, None] >> np.arange(26, -1, -1)) & 1
    kept = np.arange(27) >= 27 - bits_of[:, None]
    head = 4 * height * width << 21 | 7 << 16
    for place, bits in enumerate(_SIZES):
        head |= (bits - 1) << (12 - 4 * place)
    first = np.array([(head >> shift) & 1 for shift in range(52, -1, -1)], np.uint8)
    stream = np.concatenate((first, spread[kept].astype(np.uint8)))
    return np.packbits(stream).tolist()


def _row_runs(
    counts: str | bytes, height: int, width: int, bbox_xywh: Sequence[int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Lengths of the runs of a mask read row by row, none of them 0, and which are inside."""
    x, y, w, h = bbox_xywh
    text = counts.encode() if isinstance(counts, str) else counts
    window = mask_window(text, height, width, (x, y, x + w, y + h))
    padded = np.zeros((h, w + 2), np.int8)
    padded[:, 1:-1] = window
    step = np.diff(padded, axis=1)
    rows, starts = np.nonzero(step == 1)
    ends = np.nonzero(step == -1)[1]
    base = (rows + y) * width + x
    edges = np.stack((base + starts, base + ends), axis=1).reshape(-1)
    # Runs that end a row and begin the next are one, as in a picture read row by row.
    joined = np.flatnonzero(edges[1:-1:2] == edges[2::2])
    edges = np.delete(edges, np.concatenate((2 * joined + 1, 2 * joined + 2)))
    lengths = np.diff(np.concatenate(([0], edges, [height * width])))
    inside = np.arange(len(lengths)) % 2 == 1
    return lengths[lengths > 0], inside[lengths > 0]
