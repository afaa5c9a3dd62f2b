"""A dataset, or one of its earlier versions, as a side of a comparison."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.copy_rows import PARENT, without_copies
from pipeline.ledger import Ledger, open_ledger, read_manifest, rows_by_image
from pipeline.storage import Storage, absolute_uri
from schemas.records import Status

_COLUMNS = ("annotation_id", "image_id", "task", "category_id", "category", "area", "rle")
_OPEN_PARTS = 2

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SideImage:
    """One image of a side.

    Attributes:
        name: Its file name.
        looked_at: It neither failed nor was skipped.
        size_hw: (height, width), pixels, (0, 0) where unknown.
        segments: Its annotation rows but those of background.
    """

    name: str
    looked_at: bool
    size_hw: tuple[int, int]
    segments: tuple[Row, ...]


class Side:
    """Reads images by name; a part or two are in memory, and where each name is.

    Args:
        ledger: The version.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.names: dict[str, int] = {}
        self._background = frozenset(item.id for item in ledger.categories if item.is_background)
        self._open: OrderedDict[int, Mapping[str, SideImage]] = OrderedDict()
        for part, table in enumerate(ledger.images(("file_name", PARENT))):
            names = without_copies(table)["file_name"].to_pylist()
            self.names.update(dict.fromkeys(names, part))

    def images(self) -> Iterator[SideImage]:
        """All images in the dataset's order."""
        for part in range(len(self.ledger.manifest.parts)):
            yield from self._part(part).values()

    def image(self, name: str) -> SideImage | None:
        """The image of this name, None where there is none."""
        part = self.names.get(name)
        return None if part is None else self._part(part)[name]

    def _part(self, index: int) -> Mapping[str, SideImage]:
        if index not in self._open:
            part = self.ledger.manifest.parts[index]
            by_image = rows_by_image(self.ledger.annotations_of(part, _COLUMNS))
            columns = ("image_id", "file_name", "status", "height", "width", PARENT)
            rows = without_copies(self.ledger.images_of(part, columns)).to_pylist()
            self._open[index] = {
                row["file_name"]: self._image(row, by_image.get(row["image_id"], []))
                for row in rows
            }
            while len(self._open) > _OPEN_PARTS:
                self._open.popitem(last=False)
        self._open.move_to_end(index)
        return self._open[index]

    def _image(self, row: Row, segments: list[Row]) -> SideImage:
        return SideImage(
            row["file_name"],
            row["status"] in (Status.OK, Status.EMPTY),
            (row["height"] or 0, row["width"] or 0),
            tuple(item for item in segments if item["category_id"] not in self._background),
        )


def open_side(uri: str, storage: Storage) -> Side:
    """Opens a dataset's folder, or a file below its versions/.

    Raises:
        ValueError: It is neither.
        StorageError: It cannot be read.
    """
    uri = absolute_uri(uri)
    folder, _, name = uri.rpartition("/")
    if not name.endswith(".json"):
        return Side(open_ledger(uri, storage))
    if folder.endswith("/versions"):
        folder = folder.removesuffix("/versions")
    elif name != "manifest.json":
        raise ValueError(f"{uri} is neither a dataset nor a file of its versions/")
    return Side(Ledger(folder, read_manifest(storage, uri), storage))
