"""Prompts in a CSV or TSV with a header: one box or one point a line.

Columns: `file_name` (or image, path, filename); `category` (a name or an id; may be missing); a box
as `x,y,w,h` or `x1,y1,x2,y2` (or xmin,ymin,xmax,ymax), in pixels; or a point as `x,y` with
`inside` (1 or 0, default 1). `image_width` and `image_height` may say what the pixels are of.
Lines with the same `id` and picture are points of one prompt.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import replace

from pipeline.storage.storage import Storage

from .size import Size, own_size, state_size
from .table import CategoryNames, PromptRow, PromptTable, digest_of, number_of

_NAMES = ("file_name", "filename", "image", "path", "image_path", "file")
_CORNERS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"))
_SIZES = (("x", "y", "w", "h"), ("x", "y", "width", "height"))


def read(uri: str, storage: Storage) -> PromptTable:
    """Reads the file.

    Raises:
        ValueError: Names the line and the column that is missing or malformed.
        StorageError: It cannot be read.
    """
    data = storage.read(uri)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{uri} is not UTF-8 text: {error}") from error
    lines = csv.DictReader(
        io.StringIO(text, newline=None), delimiter="\t" if _has_tabs(text) else ","
    )
    try:
        return _table(lines, uri, digest_of(data))
    except csv.Error as error:
        raise ValueError(f"{uri}, line {lines.line_num + 1}: {error}") from None


def _table(lines: csv.DictReader[str], uri: str, digest: str) -> PromptTable:
    columns = {(name or "").strip().lower(): name for name in lines.fieldnames or ()}
    name = next((key for key in _NAMES if key in columns), None)
    if name is None:
        raise ValueError(f"{uri} has no column of file names; one of {', '.join(_NAMES)}")
    names = CategoryNames()
    rows: dict[object, PromptRow] = {}
    sizes: dict[str, Size] = {}
    for line in lines:
        cell = {key: (line.get(column) or "").strip() for key, column in columns.items()}
        where = f"{uri}, line {lines.line_num}"
        try:
            stated = (cell.get(key) or None for key in ("image_height", "image_width"))
            if size := own_size(*stated):
                state_size(sizes, cell[name], size)
            row = _row(cell, cell[name], names.id_of(cell.get("category")))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        key = (row.file_name, cell["id"]) if cell.get("id") else lines.line_num
        rows[key] = _joined(rows[key], row, where) if key in rows else row
    return PromptTable(
        rows.values(),
        categories=names.categories(),
        uri=uri,
        digest=digest,
        sizes=sizes,
    )


def _row(cell: Mapping[str, str], file_name: str, category_id: int) -> PromptRow:
    if not file_name:
        raise ValueError("no file name")
    plain = PromptRow(file_name, category_id, source_id=number_of(cell.get("id", "")))
    for keys in _CORNERS:
        if all(cell.get(key) for key in keys):
            left, top, right, bottom = (_number(cell, key) for key in keys)
            return replace(plain, bbox_xyxy=(left, top, right, bottom))
    for keys in _SIZES:
        if all(cell.get(key) for key in keys):
            x, y, w, h = (_number(cell, key) for key in keys)
            return replace(plain, bbox_xyxy=(x, y, x + w, y + h))
    if cell.get("x") and cell.get("y"):
        flag = cell.get("inside", "").lower()
        if flag not in ("", "0", "1", "true", "false"):
            raise ValueError(f"inside must be 1 or 0, got {flag!r}")
        point = (_number(cell, "x"), _number(cell, "y"))
        return replace(plain, points_xy=(point,), inside=(flag not in ("0", "false"),))
    raise ValueError("neither a box (x,y,w,h or x1,y1,x2,y2) nor a point (x,y)")


def _number(cell: Mapping[str, str], key: str) -> float:
    try:
        return float(cell[key])
    except ValueError:
        raise ValueError(f"{key} must be a number, got {cell[key]!r}") from None


def _joined(first: PromptRow, more: PromptRow, where: str) -> PromptRow:
    if first.category_id != more.category_id:
        raise ValueError(f"{where}: the same id stands for two categories")
    if first.bbox_xyxy is not None and more.bbox_xyxy is not None:
        raise ValueError(f"{where}: the same id has two boxes")
    return replace(
        first,
        bbox_xyxy=first.bbox_xyxy or more.bbox_xyxy,
        points_xy=first.points_xy + more.points_xy,
        inside=first.inside + more.inside,
    )


def _has_tabs(text: str) -> bool:
    return "\t" in text.partition("\n")[0]
