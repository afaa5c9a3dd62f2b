"""COCO JSON as a side of a comparison: an instances file, or a list of results."""

from __future__ import annotations

import logging
import math
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from schemas.records import Task

from . import fields
from .categories import ScoredCategory, Table, canonical
from .fields import ImageKey, LeftOut, same_key, shown
from .json_file import JsonFile, Spans, is_scalar
from .source import ImageEntry, IouType, Segments, make_segments

_log = logging.getLogger(__name__)


class CocoSource:
    """Instances `{"images", "annotations", "categories"}` or results `[{"image_id", …}]`.

    Keeps 20 bytes an annotation: where it stands in the file, and of which image it is. Lists of
    entries may also be objects, whose keys are then the ids, as LIVECell writes them.

    Args:
        file: The file.
        iou_type: "bbox" reads boxes and asks for no masks.
        skip_invalid: Leave out entries that cannot be used, instead of refusing the file.

    Attributes:
        undeclared: Ids of annotations' categories that the file's own list of categories lacks.
        left_out: Entries that were left out when the file was opened.

    Raises:
        ValueError: It is neither, or an entry is wrong.
    """

    task: Task = "instance"

    def __init__(
        self, file: JsonFile, *, iou_type: IouType = "segm", skip_invalid: bool = False
    ) -> None:
        self._file, self._iou_type = file, iou_type
        self.left_out = LeftOut(file.uri, skip=skip_invalid)
        results = file.root == "list"
        self.kind = "coco-results" if results else "coco-instances"
        self._sizes: list[tuple[int, int]] = []
        self._entries: list[ImageEntry] = []
        self._place: dict[ImageKey, int] = {}
        if not results:
            self._read_images()
        table = coco_table(entries_of(file, "categories"), self.left_out)
        used = self._read_annotations()
        # A list that is there says what there is; without one, what occurs does.
        unnamed = {id_: ScoredCategory(id_, str(id_)) for id_ in sorted(used)}
        self.categories: Table | None = unnamed | table
        self.undeclared = frozenset(used - set(table)) if table else frozenset[int]()
        file.forget()

    def __getstate__(self) -> dict[str, Any]:
        """What reading needs: processes that share the work know images by their ids."""
        return {**self.__dict__, "_entries": []}

    def entries(self) -> Sequence[ImageEntry]:
        """Images in the file's order."""
        return self._entries

    def block(self, key: int | str) -> int:
        """Images are read one by one."""
        return 0

    def read(self, key: int | str) -> Segments:
        """The annotations of one image in the file's order, polygons drawn as masks."""
        place = self._place[same_key(key)]
        rows = slice(*self._bounds[place : place + 2].tolist())
        items = self._file.read(self._starts[rows], self._starts[rows] + self._lengths[rows])
        height, width = self._size(place, items)
        left_out = LeftOut(self._file.uri, skip=self.left_out.skip)
        kept: list[Mapping[str, Any]] = []
        counts: list[bytes] = []
        boxes: list[tuple[float, float, float, float]] = []
        for item in items:
            try:
                if self._iou_type == "bbox":
                    boxes.append(fields.box(item))
                else:
                    counts.append(fields.mask(item, height, width, check=left_out.skip))
            except ValueError as error:
                # A bad mask may leave a good box.
                hint = "" if self._iou_type == "bbox" else "; --iou-type bbox compares boxes"
                left_out.add(f"{_which(item, key)}: {error}", hint if "bbox" in item else "")
            else:
                kept.append(item)
        return make_segments(
            height,
            width,
            counts,
            [fields.category_id(item) for item in kept],
            iscrowd=[fields.flag(item, "iscrowd") for item in kept],
            scores=[_score(item) for item in kept],
            coco_areas=[_area(item) for item in kept],
            boxes=boxes if self._iou_type == "bbox" else None,
            left_out=tuple(left_out.examples),
            left_out_count=left_out.count,
        )

    def _read_images(self) -> None:
        """Notes the images. They may all be without names, and are then known by their ids."""
        ambiguous, nameless = set[ImageKey](), set[ImageKey]()
        for item in entries_of(self._file, "images"):
            try:
                if not isinstance(item, Mapping):
                    raise ValueError("it is no object")
                key = fields.image_key(item, "id")
                name = None if item.get("file_name") is None else fields.file_name(item)
                size = fields.size_of_image(item)
            except ValueError as error:
                named = item.get("file_name", "") if isinstance(item, Mapping) else shown(item)
                number = len(self._entries) + self.left_out.count + 1
                self.left_out.add(f"image {named or number}: {error}")
                continue
            before = self._place.get(key)
            if before is None:
                self._place[key] = len(self._entries)
                # Text stays text: COCO's order of images, which decides between equal scores,
                # is then that of letters.
                self._entries.append(
                    ImageEntry(item["id"] if isinstance(item["id"], str) else key, name)
                )
                self._sizes.append(size)
                if name is None:
                    nameless.add(key)
            elif self._entries[before].name != name or self._sizes[before] != size:
                first, one, two = self._entries[before].name, self._sizes[before], size
                both = f"{first!r} and {name!r}"
                if first == name:
                    both = f"a {name!r} of {one[1]} × {one[0]} and one of {two[1]} × {two[0]}"
                self.left_out.add(f"image id {shown(item['id'])} is that of {both}")
                ambiguous.add(key)
        if len(nameless) < len(self._entries):
            for key in sorted(nameless, key=str):
                self.left_out.add(f"image {shown(key)}: it has no file_name, where others have one")
            ambiguous |= nameless
        if ambiguous:  # whose annotations are those of this id?
            kept = [place for key, place in self._place.items() if key not in ambiguous]
            self._entries = [self._entries[place] for place in kept]
            self._sizes = [self._sizes[place] for place in kept]
            self._place = {same_key(item.key): at for at, item in enumerate(self._entries)}

    def _read_annotations(self) -> set[int]:
        """Notes where annotations stand, and looks at all of them but their masks.

        Returns:
            The ids of categories that occur.
        """
        spans = self._file.spans("annotations")
        images, kept = array("i"), np.ones(len(spans), np.bool_)
        seen, owners = array("q"), array("i")
        used, number, odd_areas = set[int](), -1, list[str]()
        for batch in self._file.batches(spans, whole=("image_id", "id", "category_id")):
            for _, item in batch:
                if is_scalar(item):
                    self.left_out.add(f"an entry of the annotations is {shown(item)}, no object")
                    continue
                number += 1
                try:
                    images.append(self._image_of(item, number))
                    used.add(fields.category_id(item))
                    fields.flag(item, "iscrowd")
                    _score(item)
                    if _area(item) is None and item.get("area") is not None:
                        odd_areas.append(f"{_which(item)} has area {shown(item['area'])}")
                        del odd_areas[fields.EXAMPLES :]
                    if (own := _id_bits(item)) is not None:
                        seen.append(own)
                        owners.append(number)
                except ValueError as error:
                    del images[number:]
                    images.append(-1)
                    kept[number] = False
                    self.left_out.add(f"{_which(item, number=number)}: {error}")
        if odd_areas:
            _log.warning("%s: the masks' areas are taken: %s", self._file.uri, ", ".join(odd_areas))
        if self.kind != "coco-results":
            kept[self._repeated(np.array(seen, np.int64), np.array(owners, np.intp), spans)] = False
        place = np.array(images, np.int32)
        rows = np.flatnonzero(kept)
        rows = rows[np.argsort(place[rows], kind="stable")]
        self._starts = spans.starts[rows]
        self._lengths = (spans.ends[rows] - self._starts).astype(np.int32)
        self._bounds = np.searchsorted(place[rows], np.arange(len(self._entries) + 1))
        return used

    def _image_of(self, item: Any, number: int) -> int:
        """Index of the image of an annotation; a list of results makes its own list of images."""
        if not isinstance(item, Mapping):
            raise ValueError("it is no object")
        key = fields.image_key(item, "image_id")
        if self.kind == "coco-results":
            if "score" not in item or item["score"] is None:
                raise ValueError("it has no score")
            if key not in self._place:
                self._place[key] = len(self._entries)
                own = item["image_id"]
                self._entries.append(ImageEntry(own if isinstance(own, str) else key, None))
        elif key not in self._place:
            raise ValueError(f"its image_id {shown(item['image_id'])} is not under images")
        return self._place[key]

    def _repeated(self, seen: np.ndarray, owners: np.ndarray, spans: Spans) -> np.ndarray:
        """Numbers of annotations whose id an earlier one has, ascending.

        Args:
            seen: n ids.
            owners: n numbers of the annotations that have them, ascending.
            spans: Where annotations stand.

        Raises:
            ValueError: There are some, and nothing is to be left out.
        """
        order = np.argsort(seen, kind="stable")
        again = np.sort(owners[order[1:][np.diff(seen[order]) == 0]])
        for number in again.tolist():
            (item,) = self._file.read(spans.starts[[number]], spans.ends[[number]])
            self.left_out.add(
                f"{_which(item)}: an earlier one has its id (so it is with {len(again)}), and "
                "pycocotools would count one in place of the other; number them anew, or leave "
                "their ids out"
            )
        return again

    def _size(self, place: int, items: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
        if self._sizes:
            return self._sizes[place]
        if self._iou_type == "bbox":
            return 0, 0  # a list of boxes does not tell; the other side does
        for item in items:
            code = item.get("segmentation")
            size = code.get("size") if isinstance(code, Mapping) else None
            if isinstance(size, list) and len(size) == 2:
                height, width = size
                return fields.size_of_image({"height": height, "width": width})
        raise ValueError(
            f"{self._file.uri}: results must hold masks as RLE with their size"
            + ("; --iou-type bbox compares boxes" if items and "bbox" in items[0] else "")
        )


def coco_table(categories: Iterable[Any], left_out: LeftOut) -> dict[int, ScoredCategory]:
    """A `categories` list; without `isthing`, a category is a thing unless it is "background".

    Args:
        categories: The entries.
        left_out: Takes those that cannot be used.

    Raises:
        ValueError: An entry has no id, or two have the same and different names.
    """
    table: dict[int, ScoredCategory] = {}
    for item in categories:
        if not isinstance(item, Mapping):
            left_out.add(f"category {shown(item)} is no object with an id and a name")
            continue
        try:
            id_ = fields.category_id(item, "id")
            isthing = fields.flag({"isthing": 1, **item}, "isthing")
        except ValueError as error:
            left_out.add(f"category {shown(item.get('name'))}: {error}")
            continue
        given = item.get("name")
        name = str(id_) if given is None else str(given)
        if id_ in table and table[id_].name != name:
            left_out.add(f"category id {id_} is that of {table[id_].name!r} and {name!r}")
            continue
        rest = canonical(name) == "background"
        table[id_] = ScoredCategory(
            id_, name, isthing and not rest, rest, _color(item.get("color"))
        )
    return table


def entries_of(file: JsonFile, name: str) -> Iterator[Any]:
    """The entries of a list, or of an object whose keys are ids and whose texts are names."""
    if not file.has(name):
        return
    spans = file.spans(name)
    for batch in file.batches(spans, whole=("id",)):
        for key, item in batch:
            if key is None or not isinstance(item, Mapping | str):
                yield item
            else:
                yield {"id": key, **({"name": item} if isinstance(item, str) else item)}


def _which(item: Any, key: ImageKey | None = None, *, number: int | None = None) -> str:
    """The name of an annotation in messages."""
    if not isinstance(item, Mapping):
        return f"entry {(number or 0) + 1} of the annotations"
    id_ = item.get("id")
    named = "annotation" if "id" in item else "an annotation"
    where = item.get("image_id", key)
    return " ".join([named, *([shown(id_)] if "id" in item else []), f"of image {shown(where)}"])


def _id_bits(item: Mapping[str, Any]) -> int | None:
    """The id of an annotation, None where it has none to speak of; huge ones by their hash."""
    id_ = item.get("id")
    if id_ is None or id_ == "" or isinstance(id_, bool):
        return None
    if not isinstance(id_, int | float | str):
        raise ValueError(f"its id is {shown(id_)}, neither a number nor a text")
    value = same_key(id_) if isinstance(id_, str) else id_
    return value if type(value) is int and abs(value) < 2**62 else hash(value)


def _score(item: Mapping[str, Any]) -> float | None:
    return None if item.get("score") is None else fields.real(item, "score")


def _area(item: Mapping[str, Any]) -> float | None:
    """The stated area; None where there is none, or one that is no number of pixels.

    Raises:
        ValueError: It is no number at all.
    """
    if item.get("area") is None:
        return None
    try:
        value = fields.real(item, "area")
    except ValueError:
        if _is_unbounded(item["area"]):  # what Python writes of a division by zero
            return None
        raise
    if value < 0:
        raise ValueError(f"its area is {shown(item['area'])}, less than nothing")
    return value


def _is_unbounded(value: Any) -> bool:
    """Whether this is NaN or infinite, perhaps as text."""
    try:
        return isinstance(value, float | str) and not math.isfinite(float(value))
    except ValueError:
        return False


def _color(value: Any) -> str:
    """COCO writes [red, green, blue], our own files "#rrggbb"; "" for anything else."""
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 3:
        parts = [part for part in value if isinstance(part, int) and 0 <= part <= 255]
        return "#" + "".join(f"{part:02x}" for part in parts) if len(parts) == 3 else ""
    return value if isinstance(value, str) and re.fullmatch("#[0-9a-f]{6}", value) else ""
