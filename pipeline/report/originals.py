"""Finds the original pictures of a dataset again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from pipeline.ledger import Ledger
from pipeline.readers import open_reader
from pipeline.storage import StorageError
from schemas.config import InputConfig
from schemas.records import ImageRecord

Read = Callable[[ImageRecord], bytes]

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
        reader = open_reader(InputConfig.model_validate(settings), ledger.storage)
        read = reader.read
        for record in reader.list():
            if record.file_name in names:
                found[record.file_name] = record
                if len(found) == len(names):
                    break
    except (StorageError, ValueError) as error:
        _log.warning("the report shows no picture that was not found: %s", error)
    return found, read


def read_or_none(read: Read, record: ImageRecord | None) -> bytes | None:
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
