"""Fields of COCO's entries as they occur: numbers written as text, flags, ids of any size.

A value is read where it can only mean one thing, and refused by name where it cannot.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from pipeline.masks import codec

ImageKey = int | str

_WHOLE = re.compile(r"\s*[+-]?[0-9]+\s*")
_EXACT = 2**53
"""Whole numbers written as 1e9 or 1.0 are exact below."""
_MOST_PIXELS = 2**40
"""Of a picture; what run lengths are read for."""


class LeftOut:
    """Entries of a file that cannot be used: the first one stops, or all are counted.

    Args:
        uri: Of the file, for messages.
        skip: Leave them out instead of stopping.

    Attributes:
        count: Entries left out so far.
        examples: What was wrong with the first of them.
    """

    def __init__(self, uri: str, *, skip: bool) -> None:
        self._uri, self.skip = uri, skip
        self.count = 0
        self.examples: list[str] = []

    def add(self, reason: str, hint: str = "") -> None:
        """Takes note of one entry.

        Args:
            reason: Which entry it is and what is wrong with it.
            hint: What else could be done about it.

        Raises:
            ValueError: Nothing is to be left out.
        """
        if not self.skip:
            raise ValueError(
                f"{self._uri}: {reason} (--skip-invalid leaves such entries out{hint})"
            )
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(reason)


EXAMPLES = 5
"""Reasons that are kept; the number beside them covers all."""


def shown(value: Any) -> str:
    """A value as JSON writes it, cut short."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def whole(item: Mapping[str, Any], key: str) -> int:
    """A whole number, also one that is written as text or with a point and zeros.

    Raises:
        ValueError: It is missing or something else.
    """
    if key not in item:
        raise ValueError(f"it has no {key}")
    value = item[key]
    if type(value) is int:
        return value
    if isinstance(value, str):
        if _WHOLE.fullmatch(value):
            return int(value)
        value = _float(value)
    if isinstance(value, float) and value.is_integer():
        if abs(value) < _EXACT:
            return int(value)
        raise ValueError(f"its {key} {shown(item[key])} has more digits than such a number keeps")
    raise ValueError(f"its {key} is {shown(item[key])}, no whole number")


def real(item: Mapping[str, Any], key: str) -> float:
    """A finite number, also one that is written as text.

    Raises:
        ValueError: It is missing or something else.
    """
    if key not in item:
        raise ValueError(f"it has no {key}")
    value = item[key]
    number = _float(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError(f"its {key} is {shown(value)}, no number")
    try:
        number = float(number)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"its {key} is {shown(value)}, which is no finite number")
    return number


def flag(item: Mapping[str, Any], key: str) -> bool:
    """0 or 1, true or false, also written as text; missing and null are 0.

    Raises:
        ValueError: It is something else.
    """
    value = item.get(key)
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    number = whole(item, key)
    if number not in (0, 1):
        raise ValueError(f"its {key} is {shown(value)}, neither 0 nor 1")
    return bool(number)


def image_key(item: Mapping[str, Any], key: str) -> ImageKey:
    """An id of an image: a whole number of any size, or text.

    Text that writes a whole number, as "17" does and "017" does not, is that number: so one side
    may write what the other counts.

    Raises:
        ValueError: It is missing or something else.
    """
    value = item.get(key)
    return same_key(value) if isinstance(value, str) and value else whole(item, key)


def same_key(key: ImageKey) -> ImageKey:
    """One key for a number and for the text that writes it."""
    if isinstance(key, str) and key.removeprefix("-").isdecimal() and str(int(key)) == key:
        return int(key)
    return key


def category_id(item: Mapping[str, Any], key: str = "category_id") -> int:
    """An id of a category.

    Raises:
        ValueError: It is missing, something else, or beyond 64 bits.
    """
    value = whole(item, key)
    if not -(2**63) < value < 2**63 - 1:
        raise ValueError(f"its {key} {value} has more than 64 bits")
    return value


def size_of_image(item: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of an image's entry, pixels.

    Raises:
        ValueError: They are no size of a picture.
    """
    height, width = whole(item, "height"), whole(item, "width")
    if height < 1 or width < 1 or height * width >= _MOST_PIXELS:
        raise ValueError(f"its size {width} × {height} is none of a picture")
    return height, width


def file_name(item: Mapping[str, Any]) -> str:
    """The name of an image as it is written.

    Raises:
        ValueError: It is missing or no text.
    """
    name = item.get("file_name")
    if not isinstance(name, str) or not name:
        what = f"is {shown(name)}, no text" if "file_name" in item else "is missing"
        raise ValueError(f"its file_name {what}")
    return name


def box(item: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """The box [x, y, width, height] of an annotation, pixels.

    Raises:
        ValueError: It has none.
    """
    value = item.get("bbox")
    if not isinstance(value, list) or len(value) != 4:
        raise ValueError(f"its bbox is {shown(value)}, no [x, y, width, height]")
    names = ("x", "y", "width", "height")
    x, y, w, h = (real(dict(zip(names, value, strict=True)), name) for name in names)
    if w < 0 or h < 0:
        raise ValueError(f"its bbox is {shown(value)}: width and height are not negative")
    return x, y, w, h


def mask(item: Mapping[str, Any], height: int, width: int, *, check: bool) -> bytes:
    """The compressed RLE string of an annotation.

    Args:
        item: The annotation.
        height: Of its image, pixels.
        width: Of its image, pixels.
        check: Look into a string that is compressed already; otherwise it is returned as it is,
            for `rle.read_runs`, which checks many at once.

    Raises:
        ValueError: It has none, or a malformed one.
    """
    if item.get("segmentation") is None:
        raise ValueError("it has no segmentation")
    return codec.from_coco(item["segmentation"], height, width, canonical=check)


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
