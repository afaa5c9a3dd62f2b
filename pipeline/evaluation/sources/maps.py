"""What the pixels of a folder of semantic maps mean, where a file beside them says it."""

from __future__ import annotations

import io
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import orjson
import tifffile
from PIL import Image

from pipeline.images.memory import worker_memory
from pipeline.images.sniff import is_cut, sniff
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.records import Task

from .categories import AGNOSTIC, Table
from .coco import coco_table
from .fields import LeftOut
from .source import ImageEntry, Segments, segments_of_map

# Pictures whose pixels are numbers: label maps, maps of category ids, panoptic id maps.

MAP_SUFFIXES = (".png", ".tif", ".tiff")
_MAP_BYTES = 16
"""Bytes a pixel of a map while it is read: three of the file, ids of four, and sums of them."""


def read_map(data: bytes, name: str) -> npt.NDArray[np.integer]:
    """A one-channel map, HxW, of PNG (grey or palette indices, 8 or 16 bits) or TIFF (integers).

    Raises:
        ValueError: The bytes are no such picture.
    """
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        try:
            with tifffile.TiffFile(io.BytesIO(data)) as file:
                page = file.pages.first
                _check_size(page.imagelength, page.imagewidth, name)
                array = np.squeeze(page.asarray())
        except Exception as error:  # tifffile raises whatever its parser trips over
            raise ValueError(f"{name} is no readable TIFF: {error}") from None
        if not array.size:
            raise ValueError(f"{name} is no readable TIFF: it holds no picture")
    elif data[1:4] == b"PNG" and data[25:26] == b"\x03":
        _check_png(data, name)
        try:
            # OpenCV would turn the indices of a palette into colours.
            array = np.asarray(Image.open(io.BytesIO(data)))
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"{name} is no readable picture: {error}") from None
    else:
        array = _decode(data, name, cv2.IMREAD_UNCHANGED)
    if array.ndim != 2 or array.dtype.kind not in "bui":
        raise ValueError(
            f"{name} is no map of numbers: it has shape {array.shape} and type {array.dtype}"
        )
    return array.astype(np.int32) if array.dtype.kind == "b" else array


def read_id_map(data: bytes, name: str) -> npt.NDArray[np.int32]:
    """A panoptic PNG as ids, HxW: R + 256·G + 256²·B.

    Raises:
        ValueError: The bytes are no picture.
    """
    bgr = _decode(data, name, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    blue, green, red = (bgr[:, :, channel].astype(np.int32) for channel in range(3))
    return red + (green << 8) + (blue << 16)


def _decode(data: bytes, name: str, flags: int) -> npt.NDArray[Any]:
    if not data:
        raise ValueError(f"{name} is empty")
    _check_png(data, name)
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        array = None
    if array is None:
        raise ValueError(f"{name} is no readable picture")
    return np.asarray(array)


def _check_png(data: bytes, name: str) -> None:
    """Looks at what a PNG says of itself, which its readers would take memory for."""
    if sniff(data) != "PNG":
        return
    if is_cut("PNG", data):
        raise ValueError(f"{name} is no readable picture: its end is missing")
    width, height = struct.unpack(">II", data[16:24])
    _check_size(height, width, name)


def _check_size(height: int, width: int, name: str) -> None:
    if height * width * _MAP_BYTES > worker_memory() // 4:
        raise ValueError(f"{name} has {width} × {height} pixels, more than memory is left for")


KEY_FILE = "categories.json"
"""As the export `semantic-png` writes it: {"unlabelled": value, "categories": [{"pixel": value,
"id": …, "name": …, "isthing": …}]}; without "pixel" the id is the value."""


@dataclass(frozen=True, slots=True)
class MapKey:
    """Pixel values of semantic maps.

    Attributes:
        void: Values that mean unlabelled.
        ids: Value → category id; None = value + `offset`, whatever the value.
        offset: Category id − value.
        categories: Names of the ids; None where nothing but the pixels tells.
    """

    void: frozenset[int]
    ids: Mapping[int, int] | None = None
    offset: int = 0
    categories: Table | None = None

    def of(self, values: Collection[int], name: str) -> dict[int, int]:
        """Value → category id for those of `values` that are not void.

        Raises:
            ValueError: A value has no meaning; names the map.
        """
        known = [value for value in values if value not in self.void]
        if self.ids is None:
            return {value: value + self.offset for value in known}
        if strange := sorted(set(known) - set(self.ids)):
            raise ValueError(f"{name} holds {strange[0]}, which {KEY_FILE} does not list")
        return {value: self.ids[value] for value in known}


def map_key(
    folder: str, *, void: Collection[int] | None, pixel_offset: int, storage: Storage
) -> MapKey:
    """The key of a folder of maps.

    Args:
        folder: URI.
        void: Values that mean unlabelled; None = what the file says; without a file 0 and 255, or
            with a `pixel_offset` 255 alone.
        pixel_offset: Category id − value, where there is no file.
        storage: File access.

    Raises:
        ValueError: The file is not what it should be, or there is an offset, too.
        StorageError: It cannot be read.
    """
    uri = join(folder, KEY_FILE)
    if not storage.exists(uri):
        usual = (255,) if pixel_offset else (0, 255)
        return MapKey(frozenset(usual if void is None else void), offset=pixel_offset)
    if pixel_offset:
        raise ValueError(f"{uri} says what pixels mean: there is no offset to give")
    try:
        data: Any = orjson.loads(storage.read(uri))
        rows = data["categories"]
        table = coco_table(rows, LeftOut(uri, skip=False))
        ids = {int(row.get("pixel", row["id"])): int(row["id"]) for row in rows}
        unlabelled = data.get("unlabelled")
        usual = () if unlabelled is None else (int(unlabelled),)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{uri} does not say what pixels mean: {error!r}") from None
    return MapKey(frozenset(usual if void is None else void), ids, categories=table)


# A folder of one-channel maps as a side of a comparison: objects, or category ids.


class MapSource:
    """Label maps (0 = background, 1…n = objects) or semantic maps (categories as values).

    Args:
        uri: The folder; sub-folders belong to the names.
        kind: "labels" or "semantic".
        key: What the values of semantic maps mean.
        storage: File access.

    Raises:
        ValueError: The folder holds no map.
    """

    def __init__(self, uri: str, kind: str, *, key: MapKey | None = None, storage: Storage) -> None:
        self.kind = kind
        self.task: Task = "instance" if kind == "labels" else "semantic"
        self._key = key or MapKey(frozenset())
        self.categories: Table | None = self._key.categories if kind == "semantic" else None
        self.left_out = LeftOut(uri, skip=False)
        self._storage = storage
        self._paths: list[str] = []
        self._entries: list[ImageEntry] = []
        for entry in storage.list(uri):
            if entry.path.lower().endswith(MAP_SUFFIXES):
                self._paths.append(entry.uri)
                self._entries.append(ImageEntry(len(self._paths), entry.path))
        if not self._paths:
            raise ValueError(f"{uri} holds no {', '.join(MAP_SUFFIXES)} file")

    def entries(self) -> Sequence[ImageEntry]:
        """Maps in the order of their paths."""
        return self._entries

    def block(self, key: int | str) -> int:
        """Images are read one by one."""
        return 0

    def read(self, key: int | str) -> Segments:
        """One segment a value. Objects have the category `AGNOSTIC`."""
        path = self._paths[int(key) - 1]
        pixels = read_map(self._storage.read(path), path).astype(np.int32)
        values = np.unique(pixels).tolist()
        if values[0] < 0:
            raise ValueError(f"{path} holds negative numbers")
        if self.kind == "labels":
            return segments_of_map(pixels, dict.fromkeys(values, AGNOSTIC))
        # 0 is nothing in a label map, but may be a category here: shift by one.
        ids = self._key.of(values, path)
        return segments_of_map(pixels + 1, {value + 1: id_ for value, id_ in ids.items()})

    def sample(self, most: int = 8) -> tuple[bool, set[int]]:
        """Whether the first maps have more than 8 bits, and the values of their pixels."""
        deep, values = False, set[int]()
        for path in self._paths[:most]:
            pixels = read_map(self._storage.read(path), path)
            deep |= pixels.dtype.itemsize > 1
            values |= set(np.unique(pixels).tolist())
        return deep, values
