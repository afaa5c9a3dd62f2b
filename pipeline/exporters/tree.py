"""A tree of many small files that an export owns: written on threads, checked, kept tidy."""

from __future__ import annotations

import hashlib
import io
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from PIL import Image

from pipeline.ledger.ledger import Ledger
from pipeline.storage.errors import MissingError
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.rows import ImageRow, LabelledRows

from .coco_parts import LabelledPart, labelled_parts
from .table import SUFFIXES, Report
from .threads import bounded_map


def images_of_part(part: LabelledPart, *, things: bool = False) -> Iterator[LabelledRows]:
    """Every image row of a part with its annotation rows, as Python values one image at a time.

    Args:
        part: Of `labelled_parts`.
        things: Only rows of things that are no crowds; wants the columns isthing and iscrowd.
    """
    index = 0
    for batch in part.images.to_batches(max_chunksize=1_000):
        for row in batch.to_pylist():
            begin, end = part.bounds[index], part.bounds[index + 1]
            own = part.annotations.slice(begin, end - begin).to_pylist()
            index += 1
            if things:
                own = [item for item in own if item["isthing"] and not item["iscrowd"]]
            yield row, own


def labelled_images(
    ledger: Ledger, images: Sequence[str], annotations: Sequence[str], *, things: bool = False
) -> Iterator[LabelledRows]:
    """Every image that was looked at with its annotation rows, in the ledger's order.

    Columns that the dataset's schema version lacks are None in every row.

    Args:
        ledger: Of one task.
        images: Columns wanted.
        annotations: Columns wanted.
        things: Only rows of things that are no crowds.

    Raises:
        ValueError: The annotations do not follow the images.
    """
    flags = ("isthing", "iscrowd") if things else ()
    for part in labelled_parts(ledger, images, [*annotations, *flags]):
        lacking = dict.fromkeys(set(images) - {*part.images.column_names})
        for row, own in images_of_part(part, things=things):
            yield cast(ImageRow, {**lacking, **row}), own


@dataclass(frozen=True, slots=True)
class OwnFile:
    """One file of a tree.

    Attributes:
        path: Relative to the export's folder.
        make: Its bytes.
        size_hw: Of a picture that is only looked at when it is checked, not made again; height 0
            where any will do.
    """

    path: str
    make: Callable[[], bytes]
    size_hw: tuple[int, int] | None = None


class Tree:
    """The files that an export has written or looked at, by hash: 8 bytes a file."""

    def __init__(self, storage: Storage, out: str) -> None:
        """Begins with no file.

        Args:
            storage: File access.
            out: URI of the export's folder; only files that end in `SUFFIXES` are ever removed.
        """
        self._storage = storage
        self._out = out
        self._known = array("Q")

    def write(self, files: Iterable[OwnFile]) -> int:
        """Writes every file, several at a time. Returns how many.

        Raises:
            StorageError: One cannot be written.
            ValueError: One cannot be made.
        """

        def write(file: OwnFile) -> str:
            self._storage.write(join(self._out, file.path), file.make())
            return file.path

        before = len(self._known)
        self._known.extend(_hash(path) for path in bounded_map(write, files))
        return len(self._known) - before

    def check(self, files: Iterable[OwnFile], report: Report) -> None:
        """Reports files that are missing, differ, or belong to no image."""

        def look(file: OwnFile) -> tuple[str, str]:
            try:
                data = self._storage.read(join(self._out, file.path))
            except MissingError:
                return file.path, "export-file-missing"
            if file.size_hw is None:
                return file.path, "" if data == file.make() else "export-file-differs"
            size = picture_size(data)
            fits = size is not None and size[1] == file.size_hw[1]
            fits = fits and file.size_hw[0] in (0, size[0] if size else -1)
            return file.path, "" if fits else "export-file-differs"

        for path, rule in bounded_map(look, files):
            self._known.append(_hash(path))
            if rule:
                report(rule, path)
        self.strays(report)

    def know(self, path: str) -> None:
        """Counts a file as one of the export's that was written another way."""
        self._known.append(_hash(path))

    def strays(self, report: Report) -> None:
        """Reports files that belong to no image."""
        for path in self._strangers():
            report("export-file-stray", path)

    def tidy(self) -> None:
        """Removes files of earlier exports that were not written this time."""
        for path in list(self._strangers()):
            self._storage.remove(join(self._out, path))

    def _strangers(self) -> Iterator[str]:
        known = np.sort(np.frombuffer(self._known, np.uint64)) if self._known else np.zeros(0)
        try:
            for entry in self._storage.list(self._out, hidden=True):
                if not entry.path.endswith(SUFFIXES):
                    continue
                value = np.uint64(_hash(entry.path))
                at = int(np.searchsorted(known, value))
                if at == len(known) or known[at] != value:
                    yield entry.path
        except MissingError:
            return


def _hash(path: str) -> int:
    digest = hashlib.blake2b(path.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def picture_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) that a picture's file says, None where it is no picture."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.height, image.width
    except Exception:  # whatever Pillow says of it: it is no picture
        return None
