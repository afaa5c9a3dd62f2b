"""Which files an input URI names: a folder, one file, or a pattern."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from pipeline.storage.errors import MissingError
from pipeline.storage.storage import Entry, Storage
from pipeline.storage.uris import absolute_uri, join

IMAGE_EXTENSIONS = (
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".tif",
    ".tiff",
    ".bmp",
    ".gif",
    ".jpe",
    ".jfif",
)
"""In lower case; in the order of preference where one sample holds several."""

_COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_KINDS = {
    **dict.fromkeys(IMAGE_EXTENSIONS, "folder"),
    **dict.fromkeys((".tar", *_COMPRESSED_TARS), "webdataset"),
    ".parquet": "parquet",
}
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

    def kind(self) -> str:
        """The format of the first file of a known kind: "folder", "webdataset" or "parquet"."""
        ignored: Counter[str] = Counter()
        for entry in self._entries():
            if found := _kind(entry.path):
                return found
            ignored[extension(entry.path)] += 1
        raise self.empty(tuple(_KINDS), ignored)

    def files(self, kind: str, ignored: Counter[str]) -> Iterator[Entry]:
        """The files of one kind in the order of their paths; counts the others in `ignored`.

        Raises:
            ValueError: `guess` is set and a file of another kind turned up.
        """
        first = ""
        for entry in self._entries():
            found = _kind(entry.path)
            if found == kind:
                first = first or entry.path
                if not entry.path.isascii():
                    _check_utf8(entry)
                yield entry
            elif found and self.guess:
                raise ValueError(
                    f"{self.uri} holds files of two kinds ({first or 'none'} is {kind}, "
                    f"{entry.path} is {found}): pass --input-format {kind} or {found}"
                )
            else:
                ignored[extension(entry.path)] += 1

    def empty(self, looked_for: Sequence[str], ignored: Counter[str]) -> EmptyInputError:
        """The error that says what was looked for and what was there instead."""
        there = ", ".join(f"{count} {name}" for name, count in ignored.most_common(5))
        return EmptyInputError(
            f"no images in {self.uri}: looked for {' '.join(looked_for)}; found "
            + (f"only {there}" if there else "no file at all")
        )

    def _entries(self) -> Iterator[Entry]:
        streams = [iter(self._named(sorted(self.names)))]
        if self.patterns or not self.names:
            match = re.compile("|".join(map(_regex, self.patterns)) or r"(?s:.*)")
            deep = not self.patterns or any("/" in p or "**" in p for p in self.patterns)
            found = self.storage.list(self.root, recursive=deep, exclude=self.exclude)
            streams.append(entry for entry in found if match.fullmatch(entry.path))
        last = None
        for entry in heapq.merge(*streams, key=lambda entry: entry.path):
            if entry.path != last:
                yield entry
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
    if storage.is_dir(uri):
        if uri in outside:
            raise ValueError(f"the input is also the output: {uri}")
        return Sources(uri, uri, storage, exclude=outside, guess=guess)
    if storage.exists(uri):
        root, _, name = uri.rpartition("/")
        return Sources(uri, root or "/", storage, names=(name,), guess=guess)
    patterns = _expand(uri)
    if patterns == [uri] and not _is_pattern(uri):
        storage.info(uri)  # says what is missing: the bucket, the folder, the file
        raise MissingError(f"no such file or folder: {uri}")
    root = _fixed_folder(patterns)
    relative = [pattern[len(root) :].lstrip("/") for pattern in patterns]
    names = tuple(path for path in relative if not _is_pattern(path))
    wild = tuple(path for path in relative if _is_pattern(path))
    return Sources(uri, root, storage, names, wild, outside, guess)


def extension(path: str) -> str:
    """ ".jpg" of "a/b.v2.JPG"; "no extension" where there is none."""
    name = path.rpartition("/")[2].lower()
    for known in _COMPRESSED_TARS:
        if name.endswith(known):
            return known
    stem, dot, last = name.rpartition(".")
    return f".{last}" if dot and stem else "no extension"


def _check_utf8(entry: Entry) -> None:
    try:
        entry.path.encode()
    except UnicodeEncodeError:
        raise ValueError(f"a file name is not UTF-8, rename it: {entry.path!a}") from None


def _kind(path: str) -> str | None:
    return _KINDS.get(extension(path))


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
