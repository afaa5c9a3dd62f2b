"""The dataset's pictures again, part by part: where each lies now, and its values."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from PIL import Image

from pipeline.images.decode import decode_values
from pipeline.ledger.ledger import Ledger
from pipeline.readers import Reader, open_reader
from pipeline.storage.errors import StorageError
from schemas.config.job import ImagesConfig, InputConfig
from schemas.records import Failure, ImageRecord

from .units import PixelSize, PixelSizeChoice, pixel_size_of

_AHEAD = 100_000
"""Records of pictures that the dataset does not have, at most, before older ones are forgotten."""

_log = logging.getLogger(__name__)


class Originals:
    """Finds the records of each part's images while listing the input once.

    The dataset has its images in the order of the listing, so only what was listed too early is
    kept: pictures that came into the input later, up to 100,000.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.reader: Reader | None = None
        self._listing: Iterator[ImageRecord] = iter(())
        self._ahead: dict[str, ImageRecord] = {}
        settings = ledger.manifest.config.get("input")
        if not settings:
            _log.warning("the dataset does not say where its pictures are")
            return
        try:
            self.reader = open_reader(InputConfig.model_validate(settings), ledger.storage)
            self._listing = self.reader.list()
        except (StorageError, ValueError) as error:
            _log.warning("the pictures are not found again: %s", error)

    def find(self, names: Sequence[str]) -> dict[str, ImageRecord]:
        """Records of these files, in the order of the dataset; those that are gone are missing."""
        missing = set(names) - self._ahead.keys()
        try:
            while missing and len(self._ahead) < _AHEAD + len(names):
                record = next(self._listing, None)
                if record is None:
                    break
                self._ahead[record.file_name] = record
                missing.discard(record.file_name)
        except (StorageError, ValueError) as error:
            _log.warning("the listing of the pictures broke off: %s", error)
            self._listing = iter(())
        found = {name: self._ahead.pop(name) for name in names if name in self._ahead}
        for name in list(self._ahead)[: max(len(self._ahead) - _AHEAD, 0)]:
            del self._ahead[name]
        return found


@dataclass(frozen=True, slots=True)
class Seen:
    """What was learnt from one picture.

    Attributes:
        values: HxWxC as the file holds them, None where not wanted or not to be had.
        pixel_size: None where unknown.
        note: Why there are no values though they were wanted, or "".
    """

    values: npt.NDArray[Any] | None = None
    pixel_size: PixelSize | None = None
    note: str = ""


def look_at(
    row: Mapping[str, Any],
    reader: Reader | None,
    record: ImageRecord | None,
    *,
    intensity: bool,
    choice: PixelSizeChoice,
    images: ImagesConfig,
) -> Seen:
    """Reads one picture, if anything is wanted of it.

    Args:
        row: Of the images table: sha256, height and width.
        reader: Of the input, None where there is none.
        record: Where the picture lies, None where it is gone.
        intensity: Whether values are wanted.
        choice: Where pixel sizes come from.
        images: Limits of decoding, as at labelling.
    """
    if not intensity and choice.read == "none":
        return Seen(pixel_size=choice.given)
    if reader is None or record is None:
        return Seen(pixel_size=choice.given, note="the picture is gone")
    try:
        data = reader.read(record)
    except (OSError, ValueError) as error:
        _log.info("%s cannot be read again: %s", record.file_name, error)
        return Seen(pixel_size=choice.given, note="the picture cannot be read")
    if row["sha256"] and hashlib.sha256(data).hexdigest() != row["sha256"]:
        return Seen(pixel_size=choice.given, note="the picture has changed since it was labelled")
    size = choice.given
    if choice.read != "none":
        size = pixel_size_of(data, likely=choice.read == "likely")
    if not intensity:
        return Seen(pixel_size=size)
    values = decode_values(data, images)
    if isinstance(values, Failure):
        return Seen(pixel_size=size, note=f"the picture cannot be decoded: {values.message}")
    if values.shape[:2] != (row["height"], row["width"]):
        return Seen(pixel_size=size, note="the picture has another size than its masks")
    return Seen(values[..., :1] if _is_grey(data) else values, size)


def _is_grey(data: bytes) -> bool:
    """Whether the file holds one channel of 8 bits, which decoding repeats for red, green, blue."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.mode in ("1", "L", "LA", "La")
    except Exception:  # what Pillow does not know is no plain grey picture
        return False
