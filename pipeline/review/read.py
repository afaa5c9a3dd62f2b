"""Reads corrections, whichever tool they come from."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterator

from pipeline.evaluation.sources.json_file import JsonFile
from pipeline.evaluation.sources.open import open_source
from pipeline.evaluation.sources.source import Source
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri

from .corrections import CorrectedRegion, Correction
from .cvat_file import read_cvat
from .label_studio_file import read_label_studio

_NO_ZIP = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
)
"""What Python's zipfile raises over damage, encryption, and packing that it does not know."""


def read_corrections(uri: str, storage: Storage | None = None) -> list[Correction]:
    """Reads a JSON export of Label Studio, CVAT for images 1.1 (XML or zip), or COCO instances.

    Args:
        uri: The file.
        storage: File access.

    Raises:
        ValueError: It is none of these.
        StorageError: It cannot be read.
    """
    storage = storage or Storage()
    uri = absolute_uri(uri)
    if uri.lower().endswith((".xml", ".zip")):
        try:
            with storage.open(uri) as file:
                return list(read_cvat(file, uri))
        except _NO_ZIP as error:
            raise ValueError(f"{uri} is no zip file that can be read: {error}") from None
    file = JsonFile(uri, storage)
    if file.root == "list":
        return list(read_label_studio(file))
    try:
        source = open_source(uri, storage=storage)
    except ValueError as error:
        raise ValueError(_without_hint(error)) from None
    if source.kind != "coco-instances":
        raise ValueError(f"{uri} is {source.kind}: corrections come as instances with file names")
    return list(_of_coco(source))


def _of_coco(source: Source) -> Iterator[Correction]:
    table = source.categories or {}
    for entry in source.entries():
        name = entry.name or ""
        try:
            found = source.read(entry.key)
        except ValueError as error:
            yield Correction(name, 0, 0, (), problem=_without_hint(error))
            continue
        yield Correction(
            file_name=name,
            height=found.height,
            width=found.width,
            problem="" if name else "the file gives it no name",
            regions=tuple(
                CorrectedRegion(table[int(id_)].name, counts, bool(crowd))
                for id_, counts, crowd in zip(
                    found.category_ids, found.counts, found.iscrowd, strict=True
                )
            ),
        )


def _without_hint(error: ValueError) -> str:
    """What is wrong, without the flags of `jobs.evaluate` that would let it pass."""
    return str(error).partition(" (--")[0]
