"""Boxes in YOLO's layout: one .txt a picture, a line a box: `number cx cy width height`, fractions.

Category names come from data.yaml (`names`, a list or a table) or classes.txt; number n becomes
category id n + 1, as ids start at 1. A line with more numbers is an outline: its box is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import yaml

from pipeline.storage.storage import Storage
from pipeline.storage.uris import join

from .table import CategoryNames, PromptRow, PromptTable, digest_of

_NAME_FILES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")


def read(uri: str, storage: Storage) -> PromptTable:
    """Reads the folder, or the folder of a data.yaml.

    Raises:
        ValueError: No label file, or names the file, the line and what is malformed.
        StorageError: A file cannot be read.
    """
    root, listed = (uri, None) if storage.is_dir(uri) else (uri.rpartition("/")[0], uri)
    files = sorted(
        (entry for entry in storage.list(root) if entry.path.endswith(".txt")),
        key=lambda entry: entry.path,
    )
    files = [entry for entry in files if entry.path.rpartition("/")[2] not in _NAME_FILES]
    if not files:
        raise ValueError(f"{root} holds no .txt file of boxes")
    known, digest = _names(root, listed, storage)
    names = CategoryNames(known)
    with ThreadPoolExecutor(16) as pool:
        contents = list(pool.map(lambda entry: storage.read(entry.uri), files))
    rows = [
        _row(line, f"{entry.path}, line {number}", entry.path, names)
        for entry, data in zip(files, contents, strict=True)
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1)
        if line.strip()
    ]
    return PromptTable(
        rows,
        categories=names.categories(),
        uri=uri,
        digest=digest_of(digest, *(entry.path.encode() for entry in files), *contents),
        names={_picture(entry.path): None for entry in files},
    )


def _row(line: str, where: str, path: str, names: CategoryNames) -> PromptRow:
    words = line.split()
    try:
        number = int(words[0])
        values = [float(word) for word in words[1:]]
    except ValueError:
        raise ValueError(f"{where}: expected `number cx cy width height`, got {line!r}") from None
    if len(values) in (4, 5):  # a fifth is a score
        cx, cy, w, h = values[:4]
        box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    elif len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[0::2], values[1::2]
        box = (min(xs), min(ys), max(xs), max(ys))
    else:
        raise ValueError(f"{where}: expected `number cx cy width height`, got {line!r}")
    if number < 0 or max(map(abs, box)) > 2:
        raise ValueError(f"{where}: not fractions of the picture: {line!r}")
    return PromptRow(_picture(path), names.id_of(number + 1), bbox_xyxy=box, relative=True)


def _picture(path: str) -> str:
    """labels/train/a.txt → images/train/a: found by its path without the extension, or its stem."""
    parts = path.removesuffix(".txt").split("/")
    return "/".join("images" if part == "labels" else part for part in parts)


def _names(root: str, listed: str | None, storage: Storage) -> tuple[dict[int, str], bytes]:
    folders = (root, root.rpartition("/")[0])
    places = (
        [listed] if listed else [join(folder, name) for folder in folders for name in _NAME_FILES]
    )
    for place in places:
        if not storage.exists(place):
            continue
        data = storage.read(place)
        if place.endswith((".yaml", ".yml")):
            return _from_yaml(data, place), data
        lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
        return {n: name for n, name in enumerate(lines, start=1) if name}, data
    return {}, b""


def _from_yaml(data: bytes, place: str) -> dict[int, str]:
    try:
        found: Any = yaml.safe_load(data)
        names = found["names"] if isinstance(found, Mapping) else None
        pairs = names.items() if isinstance(names, Mapping) else enumerate(names or ())
        return {int(number) + 1: str(name) for number, name in pairs}
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{place} has no readable `names`: {error}") from error
