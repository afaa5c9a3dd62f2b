"""Which labels are already there: fingerprint → the part that holds them."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from schemas.rows import LabelledRows

from .parts import read_part, rows_by_image

_KEEP_PARTS = 4


def image_fingerprint(sha256: str, run: str, *how: str) -> str:
    """Key of an image's labels: its bytes and everything else they depend on, 32 hex digits.

    Args:
        sha256: Of the bytes, hex.
        run: Config fingerprint.
        how: What else there is to say of how the bytes are read; "" = nothing.
    """
    return hashlib.sha256(" ".join(filter(None, (sha256, run, *how))).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class ReuseIndex:
    """Sorted fingerprints and their parts: 12 bytes an image, shared by all workers of a node.

    Attributes:
        keys: First 64 bits of each fingerprint, ascending, uint64.
        parts: Index into `names`, int32, same length.
        names: Part names.
    """

    keys: npt.NDArray[np.uint64]
    parts: npt.NDArray[np.int32]
    names: tuple[str, ...]

    def find(self, fingerprint: str) -> str | None:
        """Name of a part that probably holds `fingerprint` (the reader of the part makes sure)."""
        if not len(self.keys):
            return None
        key = np.uint64(int(fingerprint[:16], 16))
        at = int(np.searchsorted(self.keys, key))
        if at < len(self.keys) and self.keys[at] == key:
            return self.names[int(self.parts[at])]
        return None


EMPTY_INDEX = ReuseIndex(np.empty(0, np.uint64), np.empty(0, np.int32), ())


class StandingLabels:
    """Rows of earlier parts by fingerprint, a few parts in memory; safe to call from threads."""

    def __init__(self, storage: Storage, dataset: str, index: ReuseIndex) -> None:
        self._storage = storage
        self._dataset = dataset
        self._index = index
        self._parts: OrderedDict[str, dict[str | int, LabelledRows]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, fingerprint: str) -> LabelledRows | None:
        """The image row and annotation rows of these labels, or None where there are none."""
        part = self._index.find(fingerprint)
        return None if part is None else self._find(part, fingerprint)

    def of_image(self, part: str, image_id: int) -> LabelledRows | None:
        """The rows that a part has of an image, or None where they are gone."""
        return self._find(part, image_id)

    def _find(self, part: str, key: str | int) -> LabelledRows | None:
        with self._lock:
            try:
                return self._rows(part).get(key)
            except (StorageError, ValueError, KeyError):
                return None  # removed or damaged since planning: the image is done again

    def _rows(self, part: str) -> dict[str | int, LabelledRows]:
        if part not in self._parts:
            images = read_part(self._storage, self._dataset, "images", part).to_pylist()
            table = read_part(self._storage, self._dataset, "annotations", part)
            by_image = rows_by_image(table)
            self._parts[part] = {
                key: (row, by_image.get(row["image_id"], []))
                for row in images
                if row["fingerprint"]
                for key in (row["fingerprint"], row["image_id"])
            }
            while len(self._parts) > _KEEP_PARTS:
                self._parts.popitem(last=False)
        self._parts.move_to_end(part)
        return self._parts[part]
