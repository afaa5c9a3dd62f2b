"""Pictures of a dataset beside its labels: read again, upright, under flat unique names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.images.large import open_image, read_contents
from pipeline.images.pages import as_planes
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.views import is_copy
from pipeline.readers.relisting import Relisting
from pipeline.storage.file_bytes import Contents, sha256_of
from pipeline.storage.uris import join
from schemas.config.job import ImagesConfig
from schemas.records import Failure, ImageRecord
from schemas.rows import ImageRow

PICTURE_COLUMNS = (
    "image_id", "file_name", "width", "height", "split", "image_format", "exif_orientation",
    "note", "sha256", "parent_image_id", "plane_index",
)  # fmt: skip
"""Columns of the images table that a row needs to become a picture."""

_AS_IT_IS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp"}
"""Formats that every trainer's reader opens: upright files are handed through, byte for byte."""

_QUALITY = 95
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_-]+")
_STEM = 60


def flat_name(row: ImageRow, suffix: str) -> str:
    """A name without folders, dots and blanks that no other image of the dataset has.

    `street/a.v2.jpg` with id 7 → `a_v2-0000000007.jpg`: what a reader cuts off or appends cannot
    make two names one.
    """
    base = row["file_name"].rpartition("/")[2]
    stem = base.rpartition(".")[0] or base
    plain = _NOT_PLAIN.sub("_", stem).strip("_-")[:_STEM]
    return f"{plain}{'-' * bool(plain)}{row['image_id']:010d}{suffix}"


def is_as_it_is(row: ImageRow) -> bool:
    """Whether a picture's own bytes serve: upright, in a format that readers open, and whole.

    Where decoding dropped or assumed something (`note`: alpha, one page of several, CMYK), or the
    image is a plane of a file, other readers would see another picture than the model did.
    """
    plain = not row["note"] and row["plane_index"] is None
    return plain and row["image_format"] in _AS_IT_IS and row["exif_orientation"] == 1


def picture_suffix(row: ImageRow) -> str:
    """Of the picture that `Pictures.upright` gives: JPEG stays JPEG, the rest may become PNG."""
    kind = row["image_format"] or ""
    if is_as_it_is(row):
        return _AS_IT_IS[kind]
    return ".jpg" if kind == "JPEG" else ".png"


class Pictures:
    """Reads the images of a dataset again; `read` and `upright` are safe to call from threads."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        images = ImagesConfig.model_validate(ledger.manifest.config.get("images", {}))
        self._images = images
        self._relisting = Relisting(
            ledger.manifest.config.get("input"),
            ledger.storage,
            within=lambda reader: as_planes(reader, images),
        )

    def find(self, rows: Sequence[ImageRow]) -> dict[str, ImageRecord]:
        """Where the pictures of these rows lie; to be asked in the dataset's order.

        Raises:
            ValueError: One is gone.
        """
        own = {
            row["file_name"]: ImageRecord(
                row["file_name"], join(self._ledger.uri, row["file_name"])
            )
            for row in rows
            if is_copy(row)
        }
        names = [row["file_name"] for row in rows if row["file_name"] not in own]
        found = self._relisting.find(names) | own
        for row in rows:
            if row["file_name"] not in found:
                raise ValueError(
                    f"{row['file_name']} is no longer in the input: this format carries the "
                    "pictures; bring it back or run jobs.label again"
                )
        return found

    def read(self, row: ImageRow, record: ImageRecord) -> Contents:
        """The bytes that were labelled; of a large TIFF they stay where they lie.

        Raises:
            ValueError: The file has changed since.
            StorageError: It cannot be read.
        """
        reader = self._relisting.reader
        if is_copy(row) or reader is None:
            data = self._ledger.storage.read(record.uri)
        else:
            data = read_contents(reader, record)
        if row["sha256"] and sha256_of(data) != row["sha256"]:
            raise ValueError(
                f"{row['file_name']} has changed since it was labelled: run jobs.label again"
            )
        return data

    def pixels(self, row: ImageRow, record: ImageRecord) -> npt.NDArray[np.uint8]:
        """HxWx3 uint8 RGB, upright, as the model was given them.

        Raises:
            ValueError: The file has changed, or another decoder than the dataset's refuses it.
            StorageError: It cannot be read.
        """
        return self._decoded(row, record, self.read(row, record))

    def upright(self, row: ImageRow, record: ImageRecord, *, suffix: str = "") -> bytes:
        """A file of the picture as its masks see it.

        The own bytes where `is_as_it_is`; a turned JPEG again as JPEG of quality 95 without
        subsampling; everything else as PNG of 8 bits. So is a PNG of 16 bits, which Pillow's
        `convert("RGB")` in a trainer would make white.

        Args:
            row: Of the images table.
            record: Where the bytes are.
            suffix: ".png" to have PNG whatever the file was.

        Raises:
            ValueError: The file has changed, or cannot be decoded any more.
            StorageError: It cannot be read.
        """
        data = self.read(row, record)
        own = picture_suffix(row)
        if is_as_it_is(row) and suffix in ("", own) and not _is_deep(data):
            return data[:]
        return encoded(self._decoded(row, record, data), suffix or own, quality=_QUALITY)

    def _decoded(self, row: ImageRow, record: ImageRecord, data: Contents) -> npt.NDArray[np.uint8]:
        sample = open_image(data, record, self._images)
        if isinstance(sample, Failure):
            raise ValueError(f"{row['file_name']} cannot be decoded again: {sample.message}")
        if sample.pixels.shape[:2] != (row["height"], row["width"]):
            raise ValueError(
                f"{row['file_name']} has another size than its masks: run jobs.label again"
            )
        return np.asarray(sample.pixels)  # once in memory, where decoding takes eight times that


def _is_deep(data: Contents) -> bool:
    """Whether this is a PNG of 16 bits: byte 24 is IHDR's bit depth."""
    return data[:8] == b"\x89PNG\r\n\x1a\n" and data[24:25] == b"\x10"


def picture_job(
    pictures: Pictures | None, row: ImageRow, *, suffix: str = ""
) -> Callable[[], bytes]:
    """What makes the file of `Pictures.upright` later, perhaps on another thread.

    Args:
        pictures: None where files are only looked at, never made.
        row: Of the images table, the next in the dataset's order.
        suffix: As for `upright`.

    Raises:
        ValueError: The picture is gone.
    """
    if pictures is None:
        return bytes
    record = pictures.find([row])[row["file_name"]]
    return partial(pictures.upright, row, record, suffix=suffix)


def encoded(pixels: npt.NDArray[np.uint8], suffix: str, *, quality: int) -> bytes:
    """HxWx3 RGB as the bytes of a JPEG, PNG or WebP file.

    Raises:
        ValueError: It has more pixels than the format can hold.
    """
    options = {
        ".jpg": [
            *(cv2.IMWRITE_JPEG_QUALITY, quality),
            *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        ],
        ".webp": [cv2.IMWRITE_WEBP_QUALITY, quality],
        ".png": [],
    }[suffix]
    limit = {".jpg": 65_535, ".webp": 16_383, ".png": 2**31 - 1}[suffix]
    if max(pixels.shape[:2]) > limit:
        raise ValueError(f"a {suffix[1:]} file holds at most {limit:,} pixels a side; use png")
    done, data = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ValueError(f"a picture of shape {pixels.shape} could not be encoded as {suffix}")
    return data.tobytes()
