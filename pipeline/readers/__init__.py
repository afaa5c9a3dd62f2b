"""Input formats: one file each behind `Reader`, found through a lazy table.

In: a URI. Out: `ImageRecord`s, and their bytes. Open `sources` first, then a format's file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Protocol

from pipeline.storage.storage import Storage
from schemas.config.job import InputConfig
from schemas.records import ImageRecord

from .sources import EmptyInputError, find_sources

__all__ = ["READERS", "EmptyInputError", "Reader", "open_reader"]

READERS: dict[str, str] = {
    "folder": "pipeline.readers.folder:FolderReader",
    "webdataset": "pipeline.readers.webdataset:WebDatasetReader",
    "parquet": "pipeline.readers.parquet:ParquetReader",
}
"""format → "module:class"; the class is built as `cls(sources, column=…)`."""


class Reader(Protocol):
    """Lists images and reads their bytes. Pickles; `read` is safe to call from many threads."""

    @property
    def ignored(self) -> Mapping[str, int]:
        """What the last listing passed over because it is no image: extension → count."""
        ...

    def list(self) -> Iterator[ImageRecord]:
        """Every image, one at a time, no pixel read, `image_id` 0; the same order every time.

        Raises:
            EmptyInputError: At the end, if there was none; says what was looked for.
            ValueError: The input is broken or ambiguous; names the file and the remedy.
            StorageError: A file or folder cannot be read.
        """
        ...

    def read(self, record: ImageRecord) -> bytes:
        """The encoded image; b"" where the input holds a null.

        Raises:
            StorageError: The bytes cannot be had.
        """
        ...


def open_reader(
    config: InputConfig, storage: Storage | None = None, *, exclude: Sequence[str] = ()
) -> Reader:
    """Finds what `config.uri` names and a reader for it.

    Args:
        config: `uri` is a folder, a tar, Parquet or image file, or a pattern with `*`, `?`, `[…]`,
            `**` and brace lists (`train-{000..003}.tar`). `limit` is left to the caller.
        storage: How files are reached.
        exclude: Folders inside the input that are not input, such as the job's own output.

    Raises:
        MissingError: Nothing is there.
        EmptyInputError: Nothing of a known kind is there.
        ValueError: The input and an excluded folder are the same.
    """
    sources = find_sources(config.uri, storage or Storage(), exclude, guess=config.format == "auto")
    kind = sources.kind() if config.format == "auto" else config.format
    module, _, name = READERS[kind].partition(":")
    return getattr(import_module(module), name)(sources, column=config.column)
