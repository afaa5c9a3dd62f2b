"""Lists of images: a path or URI a line, a CSV, or JSON lines."""

from __future__ import annotations

import codecs
import csv
import hashlib
import json
import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

from pipeline.storage.errors import StorageError
from pipeline.storage.file_bytes import Contents
from pipeline.storage.storage import Entry
from pipeline.storage.uris import absolute_uri, local_path
from schemas.containers import Container
from schemas.records import ImageRecord

from .column import bare
from .inventory import NAMED_TWICE, Inventory, summary
from .kinds import LISTS, extension, kind_of, names_picture
from .listing import Batch, batches_of
from .options import ReaderOptions
from .sources import Sources, fault_reason, open_file

_NAMES = ("path", "file_name", "filename", "file", "image", "image_path", "uri", "url", "img")


class FileListReader:
    """One image an entry. A relative path is relative to the list's folder.

    An image's name is its path below that folder, else the whole path or URI without its scheme.
    """

    def __init__(self, sources: Sources, options: ReaderOptions) -> None:
        self.inventory = Inventory()
        self._sources = sources
        self._column = options.column

    def batches(self) -> Iterator[Batch]:
        """See `pipeline.readers.Reader`."""
        return batches_of(self.list())

    def list(self) -> Iterator[ImageRecord]:
        """See `pipeline.readers.Reader`. Lists by path, entries in the order of their list."""
        self.inventory.clear()
        found = False
        seen: set[str] = set()
        for entry in self._sources.files("list", self.inventory):
            images, faults = 0, list[str]()
            try:
                for line, path in self._entries(entry, faults):
                    record = self._record(entry, line, path)
                    if record is None or record.file_name in seen:
                        self.inventory.leave(bare(path), NAMED_TWICE if record else "")
                        continue
                    seen.add(record.file_name)
                    found = True
                    images += 1
                    yield record
            except (OSError, ValueError) as error:
                faults.append(fault_reason(error))
            if not images and not faults:
                faults.append("it names no image")
            container = Container.of(entry.uri, images, summary(faults))
            self.inventory.containers.append(container)
        if not found:
            raise self._sources.empty([f"lists ({' '.join(LISTS)})"], self.inventory)

    def read(self, record: ImageRecord) -> bytes:
        """See `pipeline.readers.Reader`."""
        if record.row >= 0:
            raise StorageError("this row has no URI")
        size = record.size if record.size >= 0 else None
        return self._sources.storage.read(record.uri, size=size)

    def open(self, record: ImageRecord) -> Contents:
        """See `pipeline.readers.Reader`."""
        if record.row >= 0:
            return self.read(record)
        return open_file(self._sources.storage, record)

    def _entries(self, entry: Entry, faults: list[str]) -> Iterator[tuple[int, str]]:
        """(line from 0, path) of every entry; "" where a row of a table has none."""
        text = _text(self._sources.storage.read(entry.uri))
        kind = extension(entry.path)
        if kind in (".csv", ".tsv"):
            try:
                yield from _of_table(text, "\t" if kind == ".tsv" else "", self._column)
            except csv.Error as error:
                raise ValueError(f"it is not a table: {error}") from None
            return
        for number, line in enumerate(map(str.strip, text.split("\n"))):
            if not line or (kind == ".txt" and line.startswith("#")):
                continue
            if kind == ".jsonl" or line.startswith(('{"', "{ ")):
                try:
                    yield number, _of_json(json.loads(line), self._column)
                except ValueError as error:
                    faults.append(f"line {number + 1}: {error}")
            else:
                yield number, _unquoted(line)

    def _record(self, entry: Entry, line: int, path: str) -> ImageRecord | None:
        path = path.strip()
        if not path:
            return ImageRecord(f"{entry.path}/{line:08d}", entry.uri, token=entry.token, row=line)
        folder = entry.uri.rpartition("/")[0]
        uri = self._there(_located(path, folder), path, folder)
        suffix = extension(bare(uri))
        if kind_of(suffix) not in ("", "folder"):
            return None
        name = _name(uri, folder)
        if local_path(uri) is None:
            return ImageRecord(name, uri, token=entry.token)
        try:
            found = self._sources.storage.info(uri)
        except StorageError:  # reading it will say why
            return ImageRecord(name, uri)
        return ImageRecord(name, uri, found.size, found.token)

    def _there(self, uri: str, path: str, folder: str) -> str:
        """The URI; of a local file that is not there, the one of another writing that is.

        Programs write %20 for a blank, and a backslash between folders.
        """
        if local_path(uri) is None or self._sources.storage.exists(uri):
            return uri
        for other in (unquote(path), path.replace("\\", "/")):
            if other != path and self._sources.storage.exists(_located(other, folder)):
                return _located(other, folder)
        return uri


def _located(path: str, folder: str) -> str:
    if "://" in path or path.startswith(("/", "~/")):
        return absolute_uri(path)
    scheme, mark, rest = folder.rpartition("://")
    return scheme + mark + posixpath.normpath(f"{rest}/{path}")


def _text(data: bytes) -> str:
    """A list's text with plain line ends: UTF-8, or UTF-16 as Windows writes it.

    Raises:
        ValueError: It is neither.
    """
    kind = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(kind)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line} is not UTF-8: is it a list? save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _unquoted(line: str) -> str:
    """A line without the quotes that a shell or `ls -Q` puts around a name."""
    if len(line) < 3 or line[0] != line[-1] or line[0] not in "\"'":
        return line
    return line[1:-1].replace('\\"', '"').replace("'\\''", "'")


def _name(uri: str, folder: str) -> str:
    plain = bare(uri)
    name = plain.removeprefix(folder + "/") if plain.startswith(folder + "/") else plain
    name = "/".join(
        part for part in name.rpartition("://")[2].split("/") if part not in ("", ".", "..")
    )
    if plain != uri:  # what the query says makes another picture; it may be a secret
        stem, dot, last = name.rpartition(".")
        mark = hashlib.sha256(uri.encode()).hexdigest()[:8]
        name = f"{stem}-{mark}.{last}" if dot and "/" not in last else f"{name}-{mark}"
    return name.encode("utf-8", "backslashreplace").decode()


def _of_table(text: str, delimiter: str, column: str) -> Iterator[tuple[int, str]]:
    """(line, path) of each row; without a delimiter the header shows what it is."""
    told = re.match(r"sep=(.)\n", text)  # Excel's own first line
    lines = [line + "\n" for line in text.split("\n")][1 if told else 0 :]
    delimiter = delimiter or (told[1] if told else _delimiter(lines, column))
    rows = csv.reader(lines, delimiter=delimiter)
    cells = [cell.strip() for cell in next(rows, [])]
    lower = [cell.lower() for cell in cells]
    at = 0
    if column:
        if column not in cells:
            raise ValueError(f"it has no column {column!r}; it has {', '.join(cells)}")
        at = cells.index(column)
    elif not any(names_picture(extension(bare(cell))) for cell in cells):
        named = [name for name in _NAMES if name in lower]
        if not named and len(cells) > 1:
            raise ValueError(
                f"which of its columns {', '.join(cells)} names the images? pass --column NAME"
            )
        at = lower.index(named[0]) if named else 0
    else:  # no header: the first line names an image already
        at = next(n for n, cell in enumerate(cells) if names_picture(extension(bare(cell))))
        yield 0, cells[at]
    for row in rows:
        if row:
            yield rows.line_num - 1, row[at] if at < len(row) else ""


def _delimiter(lines: Sequence[str], column: str) -> str:
    """The first character that makes of the header a known column or the name of a picture."""
    for one in ",;\t|":
        cells = [cell.strip() for cell in next(csv.reader(lines, delimiter=one), [])]
        known = column in cells if column else any(cell.lower() in _NAMES for cell in cells)
        if known or any(names_picture(extension(bare(cell))) for cell in cells):
            return one
    return ","


def _of_json(value: Any, column: str) -> str:
    """The path of one line of JSON.

    Raises:
        ValueError: It names none.
    """
    if isinstance(value, str) and not column:
        return value
    if isinstance(value, dict):
        names = [column] if column else [name for name in _NAMES if name in value]
        if names and names[0] in value:
            found = value[names[0]]
            if isinstance(found, dict):  # {"image": {"path": …}}
                return _of_json(found, "")
            return found if isinstance(found, str) else ""
    raise ValueError(f"no {column or ' or '.join(_NAMES[:3])} in it")
