"""Relisting: where the pictures of a dataset lie now, found in its order in one listing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from schemas.config.job import InputConfig
from schemas.records import ImageRecord

from . import Reader, open_reader

_AHEAD = 100_000
"""Records of pictures that the dataset does not have, at most, before older ones are forgotten."""

_log = logging.getLogger(__name__)


class Relisting:
    """Finds the records of each part's images while listing the input once.

    The dataset has its images in the order of the listing, so only what was listed too early is
    kept: pictures that came into the input later, up to 100,000.

    Attributes:
        reader: Of the input, None where it is not found again.
    """

    def __init__(
        self,
        settings: Mapping[str, Any] | None,
        storage: Storage,
        *,
        within: Callable[[Reader], Reader] = lambda reader: reader,
    ) -> None:
        """Opens the input.

        Args:
            settings: The section `input` of the config that the dataset was made with.
            storage: File access.
            within: Of the files' reader, the one whose images the dataset has: the planes of files.
        """
        self.reader: Reader | None = None
        self._listing: Iterator[ImageRecord] = iter(())
        self._ahead: dict[str, ImageRecord] = {}
        if not settings:
            _log.warning("the dataset does not say where its pictures are")
            return
        try:
            reader = within(open_reader(InputConfig.model_validate(settings), storage))
            self.reader, self._listing = reader, reader.list()
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
        if (excess := len(self._ahead) - _AHEAD) > 0:
            for name in list(self._ahead)[:excess]:
                del self._ahead[name]
        return found
