"""Prompts as JSON: a list of objects, or one object a line.

An object has `file_name`, may have `category` (a name or an id) and `id`, and asks by `bbox_xywh`
or `bbox_xyxy` (four numbers, pixels), by `points_xy` ([[x, y], …]) with `inside` ([1, 0, …],
default all 1), or by both. `image_width` and `image_height` may say what its pixels are of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.storage.storage import Storage

from .size import Size, own_size, state_size
from .table import CategoryNames, PromptRow, PromptTable, digest_of, source_id_of

_SIZE = ("image_height", "image_width")
_KEYS = ("file_name", "category", "id", "bbox_xywh", "bbox_xyxy", "points_xy", "inside", *_SIZE)


def read(uri: str, storage: Storage) -> PromptTable:
    """Reads the file.

    Raises:
        ValueError: Names the entry and the key that is missing, unknown or malformed.
        StorageError: It cannot be read.
    """
    data = storage.read(uri)
    names = CategoryNames()
    rows = []
    sizes: dict[str, Size] = {}
    for number, entry in enumerate(_entries(data, uri), start=1):
        try:
            rows.append(_row(entry, names))
            if size := own_size(*(entry.get(key) for key in _SIZE)):
                state_size(sizes, rows[-1].file_name, size)
        except ValueError as error:
            raise ValueError(f"{uri}, entry {number}: {error}") from None
    return PromptTable(
        rows, categories=names.categories(), uri=uri, digest=digest_of(data), sizes=sizes
    )


def _entries(data: bytes, uri: str) -> Sequence[Any]:
    try:
        if data.lstrip()[:1] == b"[":
            return json.loads(data)
        return [json.loads(line) for line in data.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{uri} is neither a JSON list nor JSON lines: {error}") from error


def _row(entry: Any, names: CategoryNames) -> PromptRow:
    if not isinstance(entry, Mapping):
        raise ValueError("not an object")
    unknown = sorted(set(entry) - set(_KEYS))
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; allowed: {', '.join(_KEYS)}")
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        raise ValueError("file_name is missing")
    box = None
    if entry.get("bbox_xyxy") is not None:
        left, top, right, bottom = _numbers(entry["bbox_xyxy"], 4, "bbox_xyxy")
        box = (left, top, right, bottom)
    elif entry.get("bbox_xywh") is not None:
        x, y, w, h = _numbers(entry["bbox_xywh"], 4, "bbox_xywh")
        box = (x, y, x + w, y + h)
    given = entry.get("points_xy") or ()
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ValueError("points_xy must be a list of [x, y]")
    points = [_numbers(point, 2, "a point of points_xy") for point in given]
    inside = entry.get("inside", [1] * len(points))
    if not isinstance(inside, Sequence) or not all(flag in (0, 1) for flag in inside):
        raise ValueError(f"inside must be a list of 1 and 0, got {inside!r}")
    return PromptRow(
        name,
        names.id_of(entry.get("category")),
        bbox_xyxy=box,
        points_xy=tuple((x, y) for x, y in points),
        inside=tuple(bool(flag) for flag in inside),
        source_id=source_id_of(entry.get("id")),
    )


def _numbers(value: Any, count: int, key: str) -> list[float]:
    # Python counts true as 1, and takes a text of four digits for four numbers.
    listed = isinstance(value, list) and not any(isinstance(item, bool) for item in value)
    try:
        numbers = [float(item) for item in value] if listed else []
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != count:
        raise ValueError(f"{key} must be {count} numbers, got {value!r}")
    return numbers
