"""Input formats: one file each behind `Reader`, found through a lazy table.

In: a URI. Out: `ImageRecord`s, and their bytes. Open `sources` first, then a format's file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Protocol

from pipeline.storage.file_bytes import Contents
from pipeline.storage.storage import Storage
from schemas.config.job import InputConfig
from schemas.records import ImageRecord

from .inventory import Inventory
from .listing import Batch
from .options import ReaderOptions
from .sources import EmptyInputError, find_sources

__all__ = ["READERS", "EmptyInputError", "Reader", "open_reader"]

READERS: dict[str, str] = {
    "folder": "pipeline.readers.folder:FolderReader",
    "webdataset": "pipeline.readers.webdataset:WebDatasetReader",
    "tar": "pipeline.readers.webdataset:WebDatasetReader",
    "parquet": "pipeline.readers.parquet:ParquetReader",
    "list": "pipeline.readers.file_list:FileListReader",
}
"""format → "module:class"; the class is built as `cls(sources, options)`."""


class Reader(Protocol):
    """Lists images and reads their bytes. Pickles; `read` is safe to call from many threads."""

    @property
    def inventory(self) -> Inventory:
        """What the last listing met beside images, whole when it has ended."""
        ...

    def batches(self) -> Iterator[Batch]:
        """Every image, as columns, no pixel read; the same order every time.

        A tar or table that is broken is noted in `inventory`, and the others are listed.

        Raises:
            EmptyInputError: At the end, if there was none; says what was looked for.
            ValueError: The input is ambiguous, or nothing of it could be read.
            StorageError: The store is at fault.
        """
        ...

    def list(self) -> Iterator[ImageRecord]:
        """The same one at a time, `image_id` 0."""
        ...

    def read(self, record: ImageRecord) -> bytes:
        """The encoded image.

        Raises:
            StorageError: The bytes cannot be had.
        """
        ...

    def open(self, record: ImageRecord) -> Contents:
        """The same, read where it is sliced, if the image is a file or a stretch of one.

        Raises:
            StorageError: The bytes cannot be had.
        """
        ...


def open_reader(
    config: InputConfig,
    storage: Storage | None = None,
    *,
    exclude: Sequence[str] = (),
    kept: str = "",
    is_picture: Callable[[bytes], bool] | None = None,
) -> Reader:
    """Finds what `config.uri` names and a reader for it.

    Args:
        config: `uri` is a folder, a tar, a Parquet, Arrow or image file, a list of images, or a
            pattern with `*`, `?`, `[…]`, `**` and brace lists (`train-{000..003}.tar`). `limit`
            is left to the caller.
        storage: How files are reached.
        exclude: Folders inside the input that are not input, such as the job's own output.
        kept: URI of a folder where the indexes of tars stand that were listed before; "" = none.
        is_picture: Whether a file's first bytes are those of a picture; for `config.any_suffix`.

    Raises:
        MissingError: Nothing is there.
        EmptyInputError: Nothing of a known kind is there.
        ValueError: The input and an excluded folder are the same.
    """
    sources = find_sources(config.uri, storage or Storage(), exclude, guess=config.format == "auto")
    any_suffix = config.any_suffix
    kind = config.format
    if kind == "auto":
        kind = sources.kind(otherwise="folder" if any_suffix else "")
    module, _, name = READERS[kind].partition(":")
    options = ReaderOptions(
        format=kind,
        column=config.column,
        base64=config.base64,
        is_picture=(is_picture or _anything) if any_suffix else None,
        kept=kept,
    )
    return getattr(import_module(module), name)(sources, options)


def _anything(start: bytes) -> bool:
    """Lets every file pass: its decoder will say what it is."""
    return True
