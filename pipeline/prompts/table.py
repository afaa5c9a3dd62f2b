"""PromptTable: the prompts of all pictures, looked up by a picture's file name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pipeline.masks import codec
from schemas.categories import Categories
from schemas.prompts import Ontology
from schemas.records import MAX_IMAGE_ID, Prompt


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One prompt as a file states it.

    Attributes:
        file_name: Of the picture, as the file names it.
        category_id: A key of the table's categories.
        bbox_xyxy: Left, top, right, bottom, or None.
        points_xy: Positions.
        inside: One flag a point: on the object, or beside it.
        relative: Coordinates are fractions of the picture's width and height, not pixels.
        source_id: Id of the annotation, or None.
        segmentation: COCO's `segmentation` of a crowd, which is handed through; else None.
    """

    file_name: str
    category_id: int
    bbox_xyxy: tuple[float, float, float, float] | None = None
    points_xy: tuple[tuple[float, float], ...] = ()
    inside: tuple[bool, ...] = ()
    relative: bool = False
    source_id: int | None = None
    segmentation: Any = None


class PromptTable:
    """All prompts of a job; small enough to travel to the workers.

    A picture is found by the path that the file gives, else by the path without its extension, else
    by its name alone where that is unique in the file.

    Args:
        rows: In the file's order, which is kept.
        categories: Of the rows.
        uri: Of the file, for messages.
        digest: Of its content: part of what labels depend on.
        names: Pictures that the file names, with or without prompts; name → id or None.

    Raises:
        ValueError: A row has neither box nor points, a malformed box, or an unknown category.
    """

    def __init__(
        self,
        rows: Iterable[PromptRow],
        *,
        categories: Categories,
        uri: str,
        digest: str,
        names: Mapping[str, int | None] | None = None,
    ) -> None:
        self.categories = categories
        self.uri = uri
        self.digest = digest
        self._rows: dict[str, list[PromptRow]] = {_clean(name): [] for name in names or ()}
        known = categories.by_id()
        for row in rows:
            _check(row, uri)
            if row.category_id not in known:
                raise ValueError(
                    f"{uri}: {row.file_name} has the unknown category {row.category_id}"
                )
            self._rows.setdefault(_clean(row.file_name), []).append(row)
        self._ids = {_clean(name): id_ for name, id_ in (names or {}).items() if id_ is not None}
        self._aliases = _aliases(self._rows)

    def __len__(self) -> int:
        """Prompts of all pictures."""
        return sum(len(rows) for rows in self._rows.values())

    def image_id(self, file_name: str) -> int | None:
        """The id that the file gives a picture; None if it gives none that can be kept."""
        id_ = self._ids.get(self._key(file_name) or "")
        return id_ if id_ is not None and 1 <= id_ <= MAX_IMAGE_ID else None

    def knows(self, file_name: str) -> bool:
        """Whether the file names this picture."""
        return self._key(file_name) is not None

    def of(self, file_name: str, height: int, width: int) -> tuple[Prompt, ...]:
        """The prompts of one picture, in the file's order.

        Args:
            file_name: As the dataset names the picture.
            height: Of the upright original, pixels.
            width: Of the same.

        Raises:
            ValueError: A crowd's mask does not belong to a picture of this size.
        """
        key = self._key(file_name)
        return () if key is None else tuple(_prompt(row, height, width) for row in self._rows[key])

    def _key(self, file_name: str) -> str | None:
        name = _clean(file_name)
        if name in self._rows:
            return name
        for short in _shorter(name):
            if (found := self._aliases.get(short)) is not None:
                return found or None
        return None


def digest_of(*parts: bytes) -> str:
    """SHA-256 of a file's bytes, or of those of several files in order, hex."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _prompt(row: PromptRow, height: int, width: int) -> Prompt:
    sx, sy = (width, height) if row.relative else (1, 1)
    box = row.bbox_xyxy
    counts = None
    if row.segmentation is not None:
        counts = codec.from_coco(row.segmentation, height, width)
    return Prompt(
        category_id=row.category_id,
        bbox_xyxy=None if box is None else (box[0] * sx, box[1] * sy, box[2] * sx, box[3] * sy),
        points_xy=tuple((x * sx, y * sy) for x, y in row.points_xy),
        inside=row.inside,
        source_id=row.source_id,
        iscrowd=row.segmentation is not None,
        counts=counts,
    )


def _check(row: PromptRow, uri: str) -> None:
    where = f"{uri}: {row.file_name}"
    if row.bbox_xyxy is None and not row.points_xy and row.segmentation is None:
        raise ValueError(f"{where} has a prompt with neither a box nor points")
    if len(row.inside) != len(row.points_xy):
        raise ValueError(f"{where} has {len(row.points_xy)} points and {len(row.inside)} flags")
    numbers = [*(row.bbox_xyxy or ()), *(value for point in row.points_xy for value in point)]
    if not all(abs(value) < 1e7 for value in numbers):  # also NaN
        raise ValueError(f"{where} has a coordinate that is no number of pixels: {numbers}")
    if row.bbox_xyxy is not None:
        left, top, right, bottom = row.bbox_xyxy
        if right <= left or bottom <= top:
            raise ValueError(f"{where} has a box without an area: {list(row.bbox_xyxy)}")


def _clean(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _shorter(name: str) -> tuple[str, str, str]:
    """Ways to name a picture more loosely, the strictest first; kinds never meet."""
    path = PurePosixPath(name)
    return (f"p:{path.with_suffix('')}", f"n:{path.name}", f"s:{path.stem}")


def _aliases(names: Iterable[str]) -> dict[str, str]:
    """Loose name → the file's name, "" where several share it."""
    found: dict[str, str] = {}
    for name in names:
        for short in _shorter(name):
            found[short] = "" if short in found else name
    return found


# Categories that a file of prompts names by text or number.


class CategoryNames:
    """Gives each name an id: its number of first appearance, or the number that it is.

    Args:
        known: Names by id that the file states; others are added as they come.
    """

    def __init__(self, known: dict[int, str] | None = None) -> None:
        self._names = dict(known or {})
        self._ids = {name: id_ for id_, name in self._names.items()}

    def id_of(self, value: object) -> int:
        """The id of a category given as a name or, as text or integer, as an id.

        Raises:
            ValueError: An id below 1.
        """
        text = str(value).strip() if value is not None else ""
        if text in self._ids:
            return self._ids[text]
        if text.isdecimal() or (text[:1] == "-" and text[1:].isdecimal()):
            number = int(text)
            if number in self._names:
                return number
            if number < 1:
                raise ValueError(f"category ids start at 1, got {number}; or give names")
            return self._add(number, text)
        return self._add(max(self._names, default=0) + 1, text or "object")

    def categories(self) -> Categories:
        """The table, by id; colours as an ontology gives them."""
        if not self._names:
            return Categories(())
        rows = [{"id": id_, "name": name} for id_, name in sorted(self._names.items())]
        return Ontology.parse({"category": rows}).categories()

    def _add(self, id_: int, name: str) -> int:
        if name in self._ids:
            return self._ids[name]
        self._names[id_] = name
        self._ids[name] = id_
        return id_
