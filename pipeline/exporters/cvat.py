"""CVAT for images 1.1: one XML in a zip, masks in CVAT's run-length code or polygons."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from typing import IO
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from pipeline.ledger.ledger import Ledger
from pipeline.masks.codec import mask_window
from pipeline.masks.polygons import bridged, components_of
from pipeline.storage.uris import join
from schemas.records import Task
from schemas.rows import AnnotationRow, ImageRow, size_of

from .json_write import staged
from .names import xml_name
from .table import Artifact, Report, Traits
from .threads import bounded_map
from .tree import labelled_images

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: no clock in published files


class Cvat:
    """`annotations.zip` with annotations.xml, for "Upload annotations" into a task of the pictures.

    A segment is a <mask>: its box and the lengths of its runs, row by row inside the box, zeros
    first. With `[export] shapes` polygons it is one <polygon> a part, with a common group_id.
    `source` is "auto". Image names are the ledger's, as CVAT has them from a shared folder.
    """

    tasks: tuple[Task, ...] = ("instance", "panoptic", "semantic")
    folder = "cvat"
    owns = None
    file = "annotations.zip"
    options: tuple[str, ...] = ("shapes", "tolerance")
    traits = Traits(names=True)

    def __init__(self, shapes: str = "mask", tolerance: float = 0.0) -> None:
        self._polygons = shapes == "polygon"
        self._tolerance = tolerance

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes `out`/annotations.zip."""
        count = 0
        with (
            staged(ledger.storage, join(out, self.file)) as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open(_member(), "w", force_zip64=True) as xml,
        ):
            for text in self._texts(ledger):
                xml.write(text)
                count += text.startswith(b"  <image ")
        return [Artifact(self.file, "cvat", count)]

    def check(self, ledger: Ledger, out: str, report: Report) -> None:
        """Compares the XML with the ledger, image by image."""
        with ledger.storage.open(join(out, self.file)) as file:
            try:
                with zipfile.ZipFile(file) as archive, archive.open("annotations.xml") as xml:
                    self._compare(ledger, xml, report)
            except (zipfile.BadZipFile, KeyError, EOFError) as error:
                raise ValueError(str(error)) from error

    def _compare(self, ledger: Ledger, xml: IO[bytes], report: Report) -> None:
        for place, text in enumerate(self._texts(ledger)):
            if xml.read(len(text)) != text:
                report("export-annotations", f"annotations.xml: image {place} differs")
                return
        if xml.read(1):
            report("export-annotations", "annotations.xml: goes on after its end")

    def _texts(self, ledger: Ledger) -> Iterator[bytes]:
        yield self._head(ledger)
        images = ["image_id", "file_name", "width", "height", "split"]
        columns = ["annotation_id", "segment_id", "category", "rle", "bbox_xywh", "score"]
        # CVAT numbers images from 0; the place in the ledger is as good as any.
        numbered = enumerate(labelled_images(ledger, images, columns))
        yield from bounded_map(lambda found: self._image(found[0], *found[1]), numbered)
        yield b"</annotations>\n"

    def _head(self, ledger: Ledger) -> bytes:
        kind = "polygon" if self._polygons else "mask"
        labels = "".join(
            f"        <label><name>{escape(xml_name(item.name), _BLANKS)}</name>"
            f"<color>{item.color}</color><type>{kind}</type><attributes/></label>\n"
            for item in ledger.categories
        )
        return (
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
            "  <meta>\n    <task>\n      <name>maskmill</name>\n      <labels>\n"
            f"{labels}      </labels>\n    </task>\n  </meta>\n"
        ).encode()

    def _image(self, number: int, row: ImageRow, items: Sequence[AnnotationRow]) -> bytes:
        subset = f" subset={quoteattr(row['split'])}" if row["split"] else ""
        shapes = "".join(text for item in items for text in self._shapes(row, item))
        return (
            f'  <image id="{number}" name={_attribute(row["file_name"])}{subset} '
            f'width="{row["width"]}" height="{row["height"]}">\n{shapes}  </image>\n'
        ).encode()

    def _shapes(self, row: ImageRow, item: AnnotationRow) -> Iterator[str]:
        height, width = size_of(row)
        counts = item["rle"]["counts"]
        label = f'label={_attribute(item["category"])} source="auto" occluded="0"'
        if not self._polygons:
            x, y, w, h = item["bbox_xywh"]
            runs = mask_runs_in_box(counts, height, width, item["bbox_xywh"])
            yield (
                f'    <mask {label} rle="{", ".join(map(str, runs))}" left="{x}" top="{y}" '
                f'width="{w}" height="{h}" z_order="0"></mask>\n'
            )
            return
        parts = components_of(counts, height, width, item["bbox_xywh"], tolerance=self._tolerance)
        group = f' group_id="{item["segment_id"]}"' if len(parts) > 1 else ""
        for part in parts:
            ring = bridged([part.outer, *part.holes]).tolist()
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in ring)
            yield f'    <polygon {label} points="{points}" z_order="0"{group}></polygon>\n'


_BLANKS = {"\n": "&#10;", "\t": "&#9;", "\r": "&#13;"}  # a reader makes plain ones in names spaces


def _attribute(name: str) -> str:
    return quoteattr(xml_name(name), _BLANKS)


def mask_runs_in_box(
    counts: str | bytes, height: int, width: int, bbox_xywh: Sequence[int]
) -> list[int]:
    """Lengths of a mask's runs inside its box, row by row, beginning with zeros.

    Args:
        counts: COCO's compressed RLE of the whole picture's mask.
        height: Of the picture, pixels.
        width: Of the same.
        bbox_xywh: The mask's tight box.
    """
    x, y, w, h = bbox_xywh
    text = counts.encode() if isinstance(counts, str) else counts
    flat = mask_window(text, height, width, (x, y, x + w, y + h)).reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate(([0], edges, [len(flat)]))).tolist()
    return [0, *runs] if flat[0] else runs


def _member() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("annotations.xml", _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    return info
