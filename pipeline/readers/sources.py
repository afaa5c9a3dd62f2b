"""Which files an input URI names: a folder, one file, or a pattern."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from pipeline.storage.errors import MissingError, StorageError, is_transient
from pipeline.storage.file_bytes import Contents, FileBytes
from pipeline.storage.storage import Entry, Storage
from pipeline.storage.uris import absolute_uri, beside, join, local_path, scheme
from pipeline.storage.walk import Page
from schemas.containers import Container
from schemas.records import ImageRecord

from .inventory import Inventory
from .kinds import KNOWN, LISTS, extension, kind_of

_CLOSED = ("permission denied", "gone while it was listed", "the path is too long")
_MAX_PATTERNS = 100_000


class EmptyInputError(ValueError):
    """The input exists and holds no image; the message says what was looked for."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The files that an input URI names.

    Attributes:
        uri: As the user gave it, absolute.
        root: What file names are relative to.
        storage: How files are reached.
        names: Files, relative to the root.
        patterns: Shell patterns, relative to the root. No names and no patterns = everything.
        exclude: URIs of folders that are not input.
        guess: The kind was not given: files of two kinds are an error.
    """

    uri: str
    root: str
    storage: Storage
    names: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    guess: bool = False

    def kind(self, otherwise: str = "") -> str:
        """The format of the first file of a known kind: "folder", "webdataset", "parquet", "list".

        Args:
            otherwise: What it is where no file tells.
        """
        if self.names and not self.patterns and extension(self.names[0]) in LISTS:
            return "list"
        seen = Inventory()
        for page in self._pages(seen):
            for path in page.paths:
                if found := kind_of(extension(path)):
                    return found
                seen.leave(path)
        if otherwise:
            return otherwise
        raise self.empty(KNOWN, seen)

    def pages(self, kind: str, seen: Inventory, *, any_suffix: bool = False) -> Iterator[Page]:
        """The files of one kind in the order of their paths; notes the others in `seen`.

        Args:
            kind: Which.
            seen: Told of everything else.
            any_suffix: Also files whose suffix says nothing.

        Raises:
            ValueError: `guess` is set and a file of another kind turned up.
        """
        first = ""
        kinds: dict[str, str] = {}  # what follows the last dot → kind: a look-up a file
        for page in self._pages(seen):
            keep: list[int] = []
            for at, path in enumerate(page.paths):
                key = path[path.rfind(".") :]
                found = kinds.get(key)
                if found is None:
                    found = kind_of(extension(path))
                    if len(key) < 9 and "/" not in key and not key.endswith(("gz", "bz2")):
                        kinds[key] = found
                if found == kind or (any_suffix and not found) or kind == "list":
                    first = first or path
                    keep.append(at)
                elif found and self.guess:
                    raise ValueError(
                        f"{self.uri} holds files of two kinds ({first or 'none'} is {kind}, "
                        f"{path} is {found}): pass --input-format {kind} or {found}"
                    )
                else:
                    seen.leave(path)
            if keep:
                yield page.only(keep)

    def files(self, kind: str, seen: Inventory) -> Iterator[Entry]:
        """The files of one kind, one at a time. See `pages`."""
        for page in self.pages(kind, seen):
            for path, size, token in zip(*page, strict=True):
                yield Entry(join(self.root, path), path, size, token)

    def empty(self, looked_for: Sequence[str], seen: Inventory) -> ValueError:
        """The error that says what was looked for and what was there instead."""
        if faults := seen.faults:
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            return ValueError(f"nothing could be read: {faults[0].uri}: {faults[0].reason}{more}")
        there = seen.describe()
        return EmptyInputError(
            f"no images in {self.uri}: looked for {' '.join(looked_for)}; found "
            + (f"only {there}" if there else "no file at all")
        )

    def _pages(self, seen: Inventory) -> Iterator[Page]:
        match = re.compile("|".join(map(_regex, self.patterns)) or r"(?s:.*)").fullmatch
        deep = not self.patterns or any("/" in p or "**" in p for p in self.patterns)

        def left_out(path: str, reason: str) -> None:
            if path.endswith("/") and reason in _CLOSED:
                seen.containers.append(Container.of(join(self.root, path), 0, reason))
            elif match(path):
                seen.leave(path, reason)

        if self.names:
            yield from self._with_names(match, deep)
            return
        for page in self.storage.pages(
            self.root, recursive=deep, exclude=self.exclude, left_out=left_out
        ):
            if not self.patterns:
                yield page
            elif keep := [at for at, path in enumerate(page.paths) if match(path)]:
                yield page.only(keep)

    def _with_names(self, match: Callable[[str], object], deep: bool) -> Iterator[Page]:
        """Files that are named one by one, between those that a pattern finds."""
        streams = [self._named(sorted(self.names))]
        if self.patterns:
            found = self.storage.list(self.root, recursive=deep, exclude=self.exclude)
            streams.append(entry for entry in found if match(entry.path))
        last = None
        for entry in heapq.merge(*streams, key=lambda entry: entry.path):
            if entry.path != last:
                yield Page([entry.path], [entry.size], [entry.token])
            last = entry.path

    def _named(self, paths: Sequence[str]) -> Iterator[Entry]:
        for path in paths:
            found = self.storage.info(join(self.root, path))
            yield Entry(found.uri, path, found.size, found.token)


def find_sources(
    uri: str, storage: Storage, exclude: Sequence[str] = (), *, guess: bool = False
) -> Sources:
    """Takes an input URI apart. See `pipeline.readers.open_reader`."""
    uri = absolute_uri(uri)
    outside = tuple(absolute_uri(other) for other in exclude)
    if uri.startswith(("http://", "https://")):
        root, _, name = uri.rpartition("/")
        return Sources(uri, root, storage, names=(name,), guess=guess)
    if storage.is_dir(uri):
        if uri in outside:
            raise ValueError(f"the input is also the output: {uri}")
        return Sources(uri, uri, storage, exclude=outside, guess=guess)
    if storage.exists(uri):
        root, _, name = uri.rpartition("/")
        return Sources(uri, root or "/", storage, names=(name,), guess=guess)
    patterns = _expand(uri)
    if patterns == [uri] and not _is_pattern(uri):
        if local_path(uri) is None:
            storage.info(uri)  # says what is missing: the bucket, the folder, the file
        raise MissingError(f"no such file or folder: {uri}{beside(uri)}")
    root = _fixed_folder(patterns)
    relative = [pattern[len(root) :].lstrip("/") for pattern in patterns]
    names = tuple(path for path in relative if not _is_pattern(path))
    wild = tuple(path for path in relative if _is_pattern(path))
    return Sources(uri, root, storage, names, wild, outside, guess)


def fault_reason(error: Exception) -> str:
    """Why a container cannot be read, as the reason of its row.

    Raises:
        StorageError: The store is at fault, not the file: its pictures would count as gone.
    """
    if isinstance(error, StorageError) and is_transient(error.__cause__ or error):
        raise error
    return " ".join(str(error).split())[:500]


def open_file(storage: Storage, record: ImageRecord) -> Contents:
    """The file that a list or a table names, read where it is sliced; one of the web is read.

    Raises:
        StorageError: It cannot be reached.
    """
    uri, size, etag = record.uri, record.size, ""
    if scheme(uri) in ("http", "https"):
        return storage.read(uri)
    if size < 0:  # a remote one, that the listing did not ask for
        there = storage.info(uri)
        size, etag = there.size, there.token
    return FileBytes(storage, uri, size=size, etag=etag)


def _is_pattern(text: str) -> bool:
    return any(character in text for character in "*?[")


def _expand(text: str) -> list[str]:
    """Brace lists {a,b} and numbered ranges {000..003}, as a shell writes them."""
    choices: list[list[str]] = []
    total = 1
    for part in re.split(r"(\{[^{}]*\})", text):
        span = re.fullmatch(r"\{(\d+)\.\.(\d+)\}", part)
        if span:
            first, last = int(span[1]), int(span[2])
            padded = any(len(end) > 1 and end.startswith("0") for end in span.groups())
            width = max(map(len, span.groups())) if padded else 0
            numbers = range(first, min(last, first + _MAX_PATTERNS) + 1)
            options = [f"{n:0{width}d}" for n in numbers]
        elif part.startswith("{") and "," in part:
            options = part[1:-1].split(",")
        else:
            options = [part]
        total *= len(options)
        if total == 0 or total > _MAX_PATTERNS:
            raise ValueError(f"{text} must name 1 to {_MAX_PATTERNS} files")
        choices.append(options)
    return ["".join(picked) for picked in product(*choices)]


def _fixed_folder(patterns: Sequence[str]) -> str:
    """The deepest folder that all patterns share and that no wildcard touches."""
    shared: list[str] = []
    for parts in zip(*(pattern.split("/")[:-1] for pattern in patterns), strict=False):
        if len(set(parts)) > 1 or _is_pattern(parts[0]):
            break
        shared.append(parts[0])
    return "/".join(shared) or "/"


def _regex(pattern: str) -> str:
    """A shell pattern as a regular expression: `*` stays inside a folder, `**` crosses folders."""
    out = ""
    for token in re.findall(r"\*\*/|\*\*|\*|\?|\[[!^]?\]?[^]]*\]|.", pattern, re.DOTALL):
        if token == "**/":
            out += r"(?:.*/)?"
        elif token == "**":
            out += r".*"
        elif token == "*":
            out += r"[^/]*"
        elif token == "?":
            out += r"[^/]"
        elif len(token) > 1:
            body = token[1:-1].replace("\\", r"\\")
            out += f"[^{body[1:]}]" if body[0] in "!^" else f"[{body}]"
        else:
            out += re.escape(token)
    return f"(?s:{out})"
