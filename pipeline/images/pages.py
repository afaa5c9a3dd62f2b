"""Files of several planes as several images: `photo.tif#z=3`."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol

from PIL import ImageFile, JpegImagePlugin, PngImagePlugin

from pipeline.storage.file_bytes import Contents
from schemas.config.images import ImagesConfig
from schemas.records import ImageRecord

from .dicom import count_dicom_frames
from .jp2_jxl import count_jpegxl_frames
from .large import read_contents
from .pillow_kinds import PLUGINS, count_frames, heif_plugin
from .sniff import sniff
from .tiff.source import count_planes

_AXES = {"page": "page", "z": "z", "time": "t"}
"""`images.each` → how a plane is named."""
_FLAT = (".jpg", ".jpeg", ".jpe", ".jfif", ".bmp")
"""Suffixes of files that are not read for it: a second picture in them is one of the camera's."""
_AT_ONCE, _THREADS = 64, 8
_KEPT, _KEPT_BYTES = 4, 1 << 28


class _Reader(Protocol):
    @property
    def inventory(self) -> Any: ...
    def list(self) -> Iterator[ImageRecord]: ...
    def read(self, record: ImageRecord) -> bytes: ...
    def open(self, record: ImageRecord) -> Contents: ...


def as_planes(reader: Any, config: ImagesConfig) -> Any:
    """The reader itself, or one whose images are its files' planes, as `images.each` says."""
    return reader if config.each == "file" else PlaneReader(reader, config.each)


class PlaneReader:
    """A reader whose images are the planes of another one's files.

    To list, every file that can hold several is read: their number is in no listing. Files of one
    plane keep their names.

    Args:
        reader: Of the files.
        each: "page", "z" or "time".
    """

    def __init__(self, reader: _Reader, each: str) -> None:
        self._reader = reader
        self._each = each
        self._held: OrderedDict[str, Contents] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"_reader": self._reader, "_each": self._each}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_reader"], state["_each"])

    @property
    def inventory(self) -> Any:
        """See `pipeline.readers.Reader`."""
        return self._reader.inventory

    def list(self) -> Iterator[ImageRecord]:
        """See `pipeline.readers.Reader`; the planes of a file follow one another."""
        records = self._reader.list()
        axis = _AXES[self._each]
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="planes") as pool:
            while some := list(islice(records, _AT_ONCE)):
                for record, count in zip(some, pool.map(self._count, some), strict=True):
                    if count == 1:
                        yield record
                        continue
                    for number in range(1, count + 1):
                        plane = f"{axis}={number}"
                        name = f"{record.file_name}#{plane}"
                        yield replace(record, file_name=name, plane=plane)

    def read(self, record: ImageRecord) -> bytes:
        """See `pipeline.readers.Reader`; the last few files are kept, for their other planes."""
        return self._contents(record, self._reader.read)[:]

    def open(self, record: ImageRecord) -> Contents:
        """See `pipeline.readers.Reader`."""
        return self._contents(record, self._reader.open)

    def _contents(self, record: ImageRecord, read: Callable[[ImageRecord], Contents]) -> Contents:
        if not record.plane:
            return read(record)
        name = record.file_name.removesuffix(f"#{record.plane}")
        with self._lock:
            if name in self._held:
                self._held.move_to_end(name)
                return self._held[name]
        data = read(replace(record, file_name=name, plane=""))
        with self._lock:
            self._held[name] = data
            while len(self._held) > _KEPT or (
                len(self._held) > 1 and sum(map(len, self._held.values())) > _KEPT_BYTES
            ):
                self._held.popitem(last=False)
        return data

    def _count(self, record: ImageRecord) -> int:
        if record.file_name.lower().endswith(_FLAT):
            return 1
        try:
            return planes_in(read_contents(self._reader, record), self._each)
        except Exception:  # its own row says what is wrong with it
            return 1


def planes_in(contents: Contents, each: str) -> int:
    """How many pages ("page"), depths ("z") or time points ("time") a file has, at least 1.

    Frames of an animation, pictures of an MPO or HEIC and frames of a DICOM file are pages; those
    of DICOM also depths.

    Raises:
        UndecodableError: It cannot be opened.
    """
    kind = sniff(contents)
    if kind == "TIFF":
        return max(1, count_planes(contents, each))
    data = contents[:]
    if kind == "DICOM" and each in ("page", "z"):
        return count_dicom_frames(data)
    if each != "page":
        return 1
    if kind == "JPEG XL":
        return count_jpegxl_frames(data)
    opened = _opened(kind, data)
    return 1 if opened is None else count_frames(opened)


def _opened(kind: str, data: bytes) -> ImageFile.ImageFile | None:
    """A file that Pillow or its plugin reads, by frames; None where there can be but one."""
    match kind:
        case "JPEG":
            return JpegImagePlugin.jpeg_factory(io.BytesIO(data))
        case "PNG":
            return PngImagePlugin.PngImageFile(io.BytesIO(data))
        case "HEIC":
            return heif_plugin()(io.BytesIO(data))
        case _:
            return PLUGINS[kind](io.BytesIO(data)) if kind in PLUGINS else None
