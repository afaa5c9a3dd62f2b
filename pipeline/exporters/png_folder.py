"""A folder of label PNGs, one an image that was looked at: painted and written on threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.ledger import Ledger
from pipeline.rle_batch import paint
from pipeline.storage import MissingError, Storage, join

from .coco_parts import labelled_parts
from .png_names import PngNames
from .threads import bounded_map


@dataclass(frozen=True, slots=True)
class Picture:
    """One image's label map to be.

    Attributes:
        file_name: Of the image.
        height: Pixels.
        width: Pixels.
        texts: The segments' compressed RLE strings.
        values: What each segment's pixels become.
    """

    file_name: str
    height: int
    width: int
    texts: pa.StringArray
    values: npt.NDArray[np.int64]


def write_pngs(
    ledger: Ledger,
    folder: str,
    names: PngNames,
    *,
    column: str,
    pixels: Callable[[npt.NDArray[np.int32]], npt.NDArray[Any]],
) -> int:
    """Writes the label map of every image that was looked at.

    Args:
        ledger: Whose segments do not overlap within an image.
        folder: URI of the PNGs' folder.
        names: Of the PNGs.
        column: The annotation column whose values the map holds; pixels outside all segments
            are 0.
        pixels: Map (HxW int32) → what cv2 writes (HxW uint8 or uint16, or HxWx3 uint8 in BGR).

    Returns:
        PNGs written.

    Raises:
        StorageError: The folder cannot be written.
        ValueError: The ledger's segments overlap or are malformed.
    """

    def write(picture: Picture) -> None:
        try:
            painted = paint(picture.texts, picture.values, picture.height, picture.width)
        except ValueError as error:
            raise ValueError(f"{picture.file_name}: {error}; run jobs.validate") from error
        # OpenCV's own settings (sub filter, run-length strategy) are three times as fast as any
        # explicit compression level, and the files as small: an explicit one turns on libpng's
        # search for the best filter of every row.
        done, data = cv2.imencode(".png", pixels(painted))
        if not done:
            raise ValueError(f"{picture.file_name}: its label map could not be encoded")
        ledger.storage.write(join(folder, names[picture.file_name]), data.tobytes())

    return sum(1 for _ in bounded_map(write, pictures(ledger, column)))


def remove_others(storage: Storage, folder: str, names: PngNames) -> None:
    """Removes the PNGs in `folder` that belong to no image any more."""
    try:
        for entry in storage.list(folder, hidden=True):
            if entry.path.endswith(".png") and entry.path not in names:
                storage.remove(entry.uri)
    except MissingError:
        return  # no image, no folder


def pictures(ledger: Ledger, column: str) -> Iterator[Picture]:
    """The label maps of all images that were looked at, values from an annotation column."""
    wanted = labelled_parts(ledger, ["file_name", "height", "width"], ["rle", column])
    for part in wanted:
        texts = pa.chunked_array(
            [chunk.field("counts") for chunk in part.annotations["rle"].chunks], pa.string()
        )
        values = part.annotations[column].to_numpy()
        rows = part.images.select(["file_name", "height", "width"]).to_pylist()
        for index, row in enumerate(rows):
            begin, end = part.bounds[index], part.bounds[index + 1]
            own = texts.slice(begin, end - begin).combine_chunks()
            yield Picture(texts=own, values=values[begin:end], **row)
