"""Datasets whose pictures lie where the manifest says: for all that reads pictures again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import tifffile

from pipeline.ledger.ledger import Ledger, publish, write_dataset
from pipeline.masks import codec
from schemas.categories import Categories, Category
from schemas.records import ErrorCode, Failure, ImageRecord, Segment, Segmentation

CELLS = Categories(
    (
        Category(1, "cell", True, "#1f9e89"),
        Category(5, "debris", True, "#d9541e"),
        Category(9, "background", False, "#8a8f98", is_background=True),
    )
)
CATEGORY_OF = {1: 1, 2: 1, 3: 5, 9: 9}
"""Label of a map → category."""

Scene = tuple[npt.NDArray[np.generic], npt.NDArray[np.integer]]
"""A picture, and a label map: 1 and 2 cells, 3 debris, 9 background."""


def scene(number: int, kind: str = "uint8") -> Scene:
    """60×80: two cells that touch each other, debris at the left edge, background."""
    labels = np.full((60, 80), 9, np.uint8)
    cv2.circle(labels, (30 + number, 20), 9, 1, -1)
    cv2.rectangle(labels, (40 + number, 14), (52 + number, 25), 2, -1)
    cv2.rectangle(labels, (0, 45), (20, 52 + number), 3, -1)
    rng = np.random.default_rng(number)
    top = 250 if kind == "uint8" else 60_000
    channels = () if kind == "uint16" else (3,)
    return rng.integers(0, top, (60, 80, *channels)).astype(kind), labels


def empty_scene() -> Scene:
    """Nothing but background."""
    pixels, labels = scene(0)
    return pixels, np.full_like(labels, 9)


def picture_dataset(
    folder: Path,
    scenes: Mapping[str, Scene],
    *,
    broken: Sequence[str] = ("zz broken.jpg",),
    task: str = "panoptic",
    shard_size: int = 2,
    resolution: float = 0.0,
) -> Ledger:
    """Writes folder/input and folder/dataset.

    Args:
        folder: Where to.
        scenes: File name → picture and label map; ".tif" is written with its full depth.
        broken: Images that failed; their files are no pictures.
        task: Of the dataset; segments of an "instance" dataset are the things.
        shard_size: Images a part.
        resolution: Pixels a centimetre that TIFFs say, 0 = none.
    """
    rows: list[tuple[ImageRecord, Segmentation | Failure]] = []
    for number, name in enumerate(sorted([*scenes, *broken]), 1):
        path = folder / "input" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        record = ImageRecord(name, str(path), image_id=number)
        if name in broken:
            path.write_bytes(b"no picture")
            rows.append((record, Failure(ErrorCode.NOT_AN_IMAGE, "not an image")))
            continue
        pixels, labels = scenes[name]
        if path.suffix == ".tif":
            units = {"resolution": (resolution,) * 2, "resolutionunit": "CENTIMETER"}
            kind = "rgb" if pixels.shape[2:] == (3,) else "minisblack"
            options = {"photometric": kind, "planarconfig": "contig"} if pixels.ndim == 3 else {}
            tifffile.imwrite(path, pixels, **options, **(units if resolution else {}))
        else:
            bgr = pixels[..., ::-1] if pixels.ndim == 3 else pixels
            path.write_bytes(cv2.imencode(path.suffix, bgr)[1].tobytes())
        found = tuple(
            Segment(CATEGORY_OF[item.label], item.counts, item.area, item.bbox_xywh, 0.75)
            for item in codec.regions(labels)
            if item.label != 9 or task == "panoptic"
        )
        rows.append((record, Segmentation(*labels.shape, found)))
    uri = str(folder / "dataset")
    ledger = write_dataset(uri, rows, categories=CELLS, task=task, shard_size=shard_size)
    source = str(folder / "input")
    manifest = replace(ledger.manifest, input=source, config={"input": {"uri": source}})
    (folder / "dataset" / "manifest.json").unlink()
    return Ledger(uri, publish(ledger.storage, uri, manifest), ledger.storage)


def with_hashes(ledger: Ledger) -> None:
    """Puts the SHA-256 of each picture into the images tables, as labelling does."""
    for path in Path(ledger.uri, "images").glob("*.parquet"):
        table = pq.ParquetFile(path).read()
        rows = table.to_pylist()
        for row in rows:
            data = Path(ledger.manifest.input, row["file_name"]).read_bytes()
            row["sha256"] = hashlib.sha256(data).hexdigest()
        pq.write_table(type(table).from_pylist(rows, schema=table.schema), path)
