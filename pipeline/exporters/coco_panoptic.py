"""COCO panoptic: one JSON annotation an image, and a PNG whose colours are the segments' ids."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.ledger.ledger import Ledger
from pipeline.storage.uris import join
from schemas.records import Task

from .coco_parts import LabelledPart, check_coco, head, image_entries, labelled_parts
from .json_write import END, compute, concat, items, member, numbers, quoted, write_object
from .png_check import RGB_8, check_pngs
from .png_folder import PngNames, remove_others, write_pngs
from .table import Artifact, Report, Standing, Traits


class CocoPanoptic:
    """`panoptic.json` and the PNGs in `panoptic/`. Every image that was looked at has both.

    A segment's id, R + 256·G + 256²·B of its colour, is its segment_id in the ledger; 0 is void.
    Only for datasets of task panoptic: instances may overlap, and a pixel has one colour.
    """

    tasks: tuple[Task, ...] = ("panoptic",)
    folder = "coco"
    owns = "panoptic"
    file = "panoptic.json"
    options: tuple[str, ...] = ("source_uri",)
    traits = Traits(label_pngs=1, names=True)

    def __init__(self, source_uri: bool = False) -> None:
        self._source_uri = source_uri

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes `out`/panoptic/*.png, then `out`/panoptic.json, then removes stale PNGs."""
        return self.renew(ledger, out, None)

    def renew(self, ledger: Ledger, out: str, before: Standing | None) -> list[Artifact]:
        """See `table.Renewable`."""
        names = PngNames.of_ledger(ledger)
        folder = join(out, self.owns)
        pictures = write_pngs(
            ledger, folder, names, column="segment_id", pixels=bgr_of_ids, before=before
        )
        written = write_object(
            ledger.storage,
            join(out, self.file),
            head(ledger, ledger.categories),
            {"images": self._images(ledger), "annotations": _entries(ledger, names)},
        )
        remove_others(ledger.storage, folder, names)
        return [
            Artifact(self.file, "coco-panoptic", written["annotations"]),
            Artifact("panoptic/", "coco-panoptic", pictures),
        ]

    def check(self, ledger: Ledger, out: str, report: Report) -> None:
        """Compares the file and every PNG with the ledger; panopticapi's rules follow from it."""
        names = PngNames.of_ledger(ledger)
        expected = head(ledger, ledger.categories)
        entries = _entries(ledger, names)
        images = self._images(ledger)
        check_coco(ledger, join(out, self.file), expected, "image", entries, report, images=images)
        check_pngs(
            ledger,
            join(out, self.owns),
            names,
            column="segment_id",
            mode=RGB_8,
            expected=lambda ids: ids,
            read=ids_of_bgr,
            report=report,
        )

    def _images(self, ledger: Ledger) -> Iterator[pa.StringArray]:
        return image_entries(ledger, source_uri=self._source_uri)


def bgr_of_ids(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """Ids as colours, id = R + 256·G + 256²·B.

    Args:
        ids: HxW int32, 0…2**24−1.

    Returns:
        HxWx3 uint8 in OpenCV's order: blue, green, red.
    """
    # The bytes of a little-endian id are R, G, B, 0.
    rgb0 = np.ascontiguousarray(ids, "<i4").view(np.uint8).reshape(*ids.shape, 4)
    return np.asarray(cv2.cvtColor(rgb0, cv2.COLOR_RGBA2BGR), np.uint8)


def ids_of_bgr(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """The inverse of `bgr_of_ids`.

    Args:
        picture: HxWx3 uint8: blue, green, red.

    Returns:
        HxW int32.
    """
    blue, green, red = (picture[..., k].astype(np.int32) for k in range(3))
    return red + 256 * green + 65_536 * blue


def _entries(ledger: Ledger, names: PngNames) -> Iterator[pa.StringArray]:
    columns = ["segment_id", "category_id", "area", "bbox_xywh", "score"]
    for part in labelled_parts(ledger, ["file_name"], columns):
        files = [names[name] for name in part.images["file_name"].to_pylist()]
        yield concat(
            *('{"image_id":', numbers(part.images["image_id"].combine_chunks())),
            *(',"file_name":', quoted(pa.array(files, pa.string()))),
            *(',"segments_info":[', _segments(part), "]}" + END),
        )


def _segments(part: LabelledPart) -> pa.StringArray:
    """The segments of each image, separated by commas; "" where an image has none."""
    rows = part.annotations.combine_chunks()
    x, y, w, h = items(rows["bbox_xywh"].combine_chunks())
    texts = concat(
        *('{"id":', numbers(rows["segment_id"].combine_chunks())),
        *(',"category_id":', numbers(rows["category_id"].combine_chunks())),
        *(',"area":', numbers(rows["area"].combine_chunks())),
        *(',"bbox":[', x, ",", y, ",", w, ",", h, '],"iscrowd":0'),
        *member("score", numbers(rows["score"].combine_chunks())),
        "}",
    )
    bounds = pa.array(part.bounds.astype(np.int32))
    return compute.binary_join(pa.ListArray.from_arrays(bounds, texts), ",")
