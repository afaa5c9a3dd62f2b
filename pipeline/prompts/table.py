"""PromptTable: the prompts of all pictures, looked up by a picture's file name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.masks import codec
from schemas.categories import Categories
from schemas.prompts import Ontology
from schemas.records import MAX_IMAGE_ID, Prompt

from .match import NameMatch, check_match, clean, match_names
from .size import OnMismatch, Size, frame_of, moved


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
        source_id: Id of the annotation, number or text, or None.
        segmentation: COCO's `segmentation` of a crowd, which is handed through; else None.
    """

    file_name: str
    category_id: int
    bbox_xyxy: tuple[float, float, float, float] | None = None
    points_xy: tuple[tuple[float, float], ...] = ()
    inside: tuple[bool, ...] = ()
    relative: bool = False
    source_id: int | str | None = None
    segmentation: Any = None


class PromptTable:
    """All prompts of a job; small enough to travel to the workers.

    A picture is found by the longest end of its path that the file names; see `match.match_names`.

    Args:
        rows: In the file's order, which is kept.
        categories: Of the rows.
        uri: Of the file, for messages.
        digest: Of its content: part of what labels depend on.
        names: Pictures that the file names, with or without prompts; name → id or None.
        sizes: Name → (height, width) that the file states, where it does.
        upright: The sizes are those of upright pictures, whatever a job says of turned ones.

    Raises:
        ValueError: A row has neither box nor a point on the object, or an unknown category; or all
            pixels are fractions.
    """

    def __init__(
        self,
        rows: Iterable[PromptRow],
        *,
        categories: Categories,
        uri: str,
        digest: str,
        names: Mapping[str, int | None] | None = None,
        sizes: Mapping[str, Size] | None = None,
        upright: bool = False,
    ) -> None:
        self.categories = categories
        self.uri = uri
        self.digest = digest
        self._rows: dict[str, list[PromptRow]] = {clean(name): [] for name in names or ()}
        known = categories.by_id()
        for row in rows:
            _check(row, uri)
            if row.category_id not in known:
                raise ValueError(
                    f"{uri}: {row.file_name} has the unknown category {row.category_id}"
                )
            self._rows.setdefault(clean(row.file_name), []).append(row)
        _check_pixels([row for own in self._rows.values() for row in own], uri)
        self._ids = {clean(name): id_ for name, id_ in (names or {}).items() if id_ is not None}
        self._sizes = {clean(name): size for name, size in (sizes or {}).items()}
        self._upright = upright
        self._keys: Mapping[str, str] | None = None
        self.on_size_mismatch: OnMismatch = "fail"

    def __len__(self) -> int:
        """Prompts of all pictures."""
        return sum(len(rows) for rows in self._rows.values())

    def match(self, pictures: Sequence[str], *, least: float) -> NameMatch:
        """Settles which picture each of the file's names means, before any picture is read.

        Args:
            pictures: File names of all images of the input.
            least: Share of the file's pictures that must be there; 0 = any one of them.

        Raises:
            ValueError: A name fits several pictures, or too few names fit one.
        """
        match = match_names(pictures, list(self._rows))
        check_match(match, uri=self.uri, names=len(self._rows), pictures=pictures, least=least)
        self._keys = match.keys
        return match

    def key(self, file_name: str) -> str:
        """The file's name of a picture; "" where it names it not."""
        return self._key(file_name) or ""

    def image_id(self, file_name: str) -> int | None:
        """The id that the file gives a picture; None if it gives none that can be kept."""
        id_ = self._ids.get(self._key(file_name) or "")
        return id_ if id_ is not None and 1 <= id_ <= MAX_IMAGE_ID else None

    def knows(self, file_name: str) -> bool:
        """Whether the file names this picture."""
        return self._key(file_name) is not None

    def of(
        self, file_name: str, height: int, width: int, *, orientation: int = 1
    ) -> tuple[Prompt, ...]:
        """The prompts of one picture, in the file's order, in pixels of the upright picture.

        Args:
            file_name: As the dataset names the picture.
            height: Of the upright original, pixels.
            width: Of the same.
            orientation: EXIF orientation that was applied to it, 1…8.

        Raises:
            ValueError: The file says that its pixels are those of another picture, or a crowd's
                mask does not belong to one of this size.
        """
        key = self._key(file_name)
        if key is None:
            return ()
        upright, how = (height, width), self.on_size_mismatch
        stated = self._sizes.get(key)
        if self._upright and stated == upright:
            stated = None
        frame = frame_of(stated, upright, orientation, how)
        prompts = (_prompt(row, *(upright if row.relative else frame)) for row in self._rows[key])
        if stated is None or (frame == upright and how != "turn"):
            return tuple(prompts)
        return tuple(
            prompt if row.relative else moved(prompt, frame, upright, orientation, how)
            for prompt, row in zip(prompts, self._rows[key], strict=True)
        )

    def _key(self, file_name: str) -> str | None:
        name = clean(file_name)
        if name in self._rows:
            return name
        if self._keys is None:
            return match_names([file_name], list(self._rows)).keys.get(file_name)
        return self._keys.get(file_name)


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
    if row.points_xy and row.bbox_xyxy is None and not any(row.inside):
        raise ValueError(f"{where} has a prompt whose points are all beside the object")
    numbers = _numbers(row)
    if not all(abs(value) < 1e7 for value in numbers):  # also NaN
        raise ValueError(f"{where} has a coordinate that is no number of pixels: {numbers}")


def _check_pixels(rows: Sequence[PromptRow], uri: str) -> None:
    """Fractions of a picture, read as pixels, would ask for its first pixel, and get an answer."""
    numbers = [each for row in rows if not row.relative for each in _numbers(row)]
    if numbers and all(0 <= each <= 1 for each in numbers) and any(each % 1 for each in numbers):
        raise ValueError(
            f"{uri}: all coordinates lie between 0 and 1: these look like fractions of the "
            "picture; they must be pixels, or a YOLO folder"
        )


def _numbers(row: PromptRow) -> list[float]:
    return [*(row.bbox_xyxy or ()), *(value for point in row.points_xy for value in point)]


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


def source_id_of(value: object) -> int | str | None:
    """An annotation's id as a file has it: a number, or text as it stands; None for none.

    Raises:
        ValueError: It is neither.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"id must be a whole number or text, got {value!r}")
    return value


def number_of(text: str) -> int | str | None:
    """An id of a file in which all is text; "007" stays text, for it would not come back."""
    if text.isascii() and text.isdecimal() and str(int(text)) == text:
        return int(text)
    return text or None
