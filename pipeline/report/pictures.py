"""One shown image: its row in the gallery, its thumbnail, its full picture and its masks."""

from __future__ import annotations

import base64
import json
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.images.large import open_image, read_contents, shrunk
from pipeline.images.pages import as_planes
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.views import is_copy
from pipeline.masks.resample import Size, fit, shrink
from pipeline.readers import open_reader
from pipeline.storage.errors import StorageError
from pipeline.storage.file_bytes import Contents, sha256_of
from schemas.config.job import ImagesConfig, InputConfig
from schemas.records import Failure, ImageRecord
from schemas.rows import AnnotationRow, ImageRow, size_of

from .survey import score_bin

FULL_SIDE = 1280
THUMB_SIDE = 320
THUMB_SEGMENTS = 1000
_UNSCORED = 1 << 20
"""Bit beside the twenty score bins."""


@dataclass(frozen=True, slots=True)
class ShownImage:
    """Everything that the page needs of one image.

    Attributes:
        entry: The gallery's row, small: all rows are loaded at once.
        thumb: Thumbnail and shrunk masks, for a chunk of the gallery.
        full: Masks at full size and facts, for the image's own file.
        jpeg: The picture, longer side ≤ 1280, or None where it could not be read again.
    """

    entry: list[Any]
    thumb: dict[str, Any]
    full: dict[str, Any]
    jpeg: bytes | None


def render(
    row: ImageRow,
    segments: Sequence[AnnotationRow],
    *,
    places: Mapping[int, int],
    background: frozenset[int],
    record: ImageRecord | None,
    data: Contents | None,
    config: ImagesConfig,
) -> ShownImage:
    """Draws one image.

    Args:
        row: Of the images table, status ok or empty.
        segments: Its rows of the annotations table.
        places: category id → index in the page's category list.
        background: Category ids that are the remainder of a picture.
        record: Where the bytes came from.
        data: The image's bytes, None where they are gone.
        config: How bytes become pixels, as at labelling.
    """
    size = size_of(row)
    pixels = original_pixels(row, record, data, config)
    # The largest first: what lies on top of something is drawn later.
    ordered = sorted(segments, key=lambda item: (-item["area"], item["segment_id"]))
    small = fit(size, THUMB_SIDE)
    thumb: dict[str, Any] = {"size": small, "segments": []}
    if pixels is not None:
        thumb["jpeg"] = base64.b64encode(_jpeg(_resize(pixels, small), 80)).decode()
    shown = ordered[:THUMB_SEGMENTS]
    texts = shrink([item["rle"]["counts"] for item in shown], size, small)
    for item, counts in zip(shown, texts, strict=True):
        if counts is not None:
            thumb["segments"].append(_segment(item, places, counts.decode()))
    return ShownImage(
        entry=_entry(row, segments, places, background),
        thumb=thumb,
        full={
            "size": size,
            "picture": pixels is not None,
            "format": row["image_format"],
            "orientation": row["exif_orientation"],
            "note": _note(row),
            "bytes": row["size_bytes"],
            "segments": [_segment(item, places, item["rle"]["counts"]) for item in ordered],
        },
        jpeg=None if pixels is None else _jpeg(_resize(pixels, fit(size, FULL_SIDE)), 85),
    )


def _note(row: ImageRow) -> str | None:
    """What decoding dropped or assumed, or what a picture is a copy of."""
    if not is_copy(row):
        return row["note"]
    steps = json.loads(row["augmentation"] or '{"steps": []}')["steps"]
    done = ", ".join(dict.fromkeys(step["step"] for step in steps)) or "nothing changed"
    return f"augmented copy of image {row['parent_image_id']}: {done}"


def original_pixels(
    row: ImageRow, record: ImageRecord | None, data: Contents | None, config: ImagesConfig
) -> npt.NDArray[np.uint8] | None:
    """The picture that was labelled, perhaps reduced; None where it is gone or another one now."""
    if record is None or data is None:
        return None
    if row["sha256"] and sha256_of(data) != row["sha256"]:
        return None
    size = size_of(row)
    small = fit(size, FULL_SIDE)
    sample = open_image(data, record, config, min_side=min(small))
    if isinstance(sample, Failure) or tuple(sample.original_hw) != size:
        return None
    return sample.pixels if isinstance(sample.pixels, np.ndarray) else shrunk(sample.pixels, small)


def _resize(pixels: npt.NDArray[np.uint8], size: Size) -> npt.NDArray[np.uint8]:
    if pixels.shape[:2] == size:
        return pixels
    shrinks = size[0] <= pixels.shape[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size[::-1], interpolation=how), np.uint8)


def _jpeg(pixels: npt.NDArray[np.uint8], quality: int) -> bytes:
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _segment(row: AnnotationRow, places: Mapping[int, int], counts: str) -> list[Any]:
    score = None if row["score"] is None else round(row["score"], 4)
    place = places[row["category_id"]]
    return [row["segment_id"], place, score, row["area"], row["bbox_xywh"], counts, row["prompt"]]


def _entry(
    row: ImageRow,
    segments: Sequence[AnnotationRow],
    places: Mapping[int, int],
    background: frozenset[int],
) -> list[Any]:
    """[id, file name, status, width, height, objects, lowest score, found, note].

    `found` is category index, number, and a set of score bins as bits, one after the other: enough
    to filter by category and score without the segments.
    """
    found: dict[int, list[int]] = {}
    for item in segments:
        entry = found.setdefault(places[item["category_id"]], [0, 0])
        entry[0] += 1
        score = item["score"]
        entry[1] |= _UNSCORED if score is None else 1 << int(score_bin(score))
    objects = [item for item in segments if item["category_id"] not in background]
    scores = [item["score"] for item in objects if item["score"] is not None]
    return [
        row["image_id"],
        row["file_name"],
        row["status"],
        row["width"],
        row["height"],
        len(objects),
        math.floor(min(scores) * 1000) / 1000 if scores else None,
        [number for place in sorted(found) for number in (place, *found[place])],
        _note(row) or "",
    ]


# Finds the original pictures of a dataset again.

Read = Callable[[ImageRecord], Contents]

_log = logging.getLogger(__name__)


def find_originals(ledger: Ledger, names: Collection[str]) -> tuple[dict[str, ImageRecord], Read]:
    """Lists the dataset's input until all of `names` are found.

    Args:
        ledger: The dataset, whose config says where the input was.
        names: File names in the images table.

    Returns:
        file name → record of those that are still there, and how to read them. An input that is
        gone gives no record: the report is then drawn without pictures.
    """
    found: dict[str, ImageRecord] = {}
    settings = ledger.manifest.config.get("input")
    if not settings or not names:
        return found, _nothing
    read = _nothing
    try:
        images = ImagesConfig.model_validate(ledger.manifest.config.get("images", {}))
        reader = open_reader(InputConfig.model_validate(settings), ledger.storage)
        reader = as_planes(reader, images)
        read = partial(read_contents, reader)
        for record in reader.list():
            if record.file_name in names:
                found[record.file_name] = record
                if len(found) == len(names):
                    break
    except (StorageError, ValueError) as error:
        _log.warning("the report shows no picture that was not found: %s", error)
    return found, read


def read_or_none(read: Read, record: ImageRecord | None) -> Contents | None:
    """The bytes, or None where they are gone."""
    if record is None:
        return None
    try:
        return read(record)
    except (OSError, ValueError) as error:
        _log.info("%s cannot be read again: %s", record.file_name, error)
        return None


def _nothing(record: ImageRecord) -> bytes:
    raise StorageError(f"{record.file_name}: the input is gone")
