"""The dataset's pictures again, part by part: where each lies now, and its values."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from pipeline.images.large import open_values, read_contents
from pipeline.images.pages import as_planes
from pipeline.ledger.ledger import Ledger
from pipeline.readers import Reader
from pipeline.readers.relisting import Relisting
from pipeline.storage.file_bytes import Contents, open_contents, sha256_of
from schemas.config.job import ImagesConfig
from schemas.records import Failure, ImageRecord

from .units import PixelSize, PixelSizeChoice, pixel_size_of

_log = logging.getLogger(__name__)


class Originals(Relisting):
    """The pictures of a dataset, found again in its order."""

    def __init__(self, ledger: Ledger) -> None:
        images = ImagesConfig.model_validate(ledger.manifest.config.get("images", {}))
        super().__init__(
            ledger.manifest.config.get("input"),
            ledger.storage,
            within=lambda reader: as_planes(reader, images),
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """What was learnt from one picture.

    Attributes:
        values: HxWxC as the file holds them, None where not wanted or not to be had. Of a picture
            that is larger than memory they are read where they are sliced.
        bands: How many of the C count, the first ones; None = all.
        pixel_size: None where unknown.
        note: Why there are no values though they were wanted, or "".
    """

    values: Any = None
    bands: int | None = None
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
        data = read_contents(reader, record)
        sha256 = sha256_of(data)
    except (OSError, ValueError) as error:
        _log.info("%s cannot be read again: %s", record.file_name, error)
        return Seen(pixel_size=choice.given, note="the picture cannot be read")
    if row["sha256"] and sha256 != row["sha256"]:
        return Seen(pixel_size=choice.given, note="the picture has changed since it was labelled")
    size = choice.given
    if choice.read != "none":
        size = pixel_size_of(
            data,
            likely=choice.read == "likely",
            images=images,
            long_side=max(row["height"], row["width"]),
        )
    if not intensity:
        return Seen(pixel_size=size)
    values = open_values(data, record, images)
    if isinstance(values, Failure):
        return Seen(pixel_size=size, note=f"the picture cannot be decoded: {values.message}")
    if values.shape[:2] != (row["height"], row["width"]):
        return Seen(pixel_size=size, note="the picture has another size than its masks")
    return Seen(values, 1 if _is_grey(data) else None, size)


def _is_grey(data: Contents) -> bool:
    """Whether the file holds one channel of 8 bits, which decoding repeats for red, green, blue."""
    try:
        with Image.open(open_contents(data)) as image:
            return image.mode in ("1", "L", "LA", "La")
    except Exception:  # what Pillow does not know is no plain grey picture
        return False
