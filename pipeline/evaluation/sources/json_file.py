"""A JSON file read entry by entry, so that memory does not grow with it.

One pass over the bytes notes where the members of the outermost object, and the entries of those
members, begin and end; entries are parsed a few megabytes at a time, or alone when they are wanted
again. Numbers stay what they are in the file: NaN and integers of more than 64 bits are read by
Python's own parser, where orjson refuses the one and rounds the other.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from pipeline.storage.storage import Storage
from pipeline.storage.uris import local_path

Ints = npt.NDArray[np.int64]

_BLOCK = 1 << 22
_QUOTE, _OPEN, _CLOSE, _BACKSLASH = 1, 2, 3, 4
_KIND = np.zeros(256, np.uint8)
for _characters, _kind in ((b'"', _QUOTE), (b"{[", _OPEN), (b"}]", _CLOSE), (b"\\", _BACKSLASH)):
    _KIND[list(_characters)] = _kind
_BLANK = b" \t\r\n"
_DEEPEST = 3
"""Levels whose brackets are noted: the outermost value, its members, their entries."""


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """n values in a file.

    Attributes:
        starts: n positions of their first bytes.
        ends: n positions, one past their last bytes.
        head: Where the list or object that holds them begins, one past its bracket.
        tail: Where it ends, at its bracket.
        keyed: They stand in an object, behind keys, instead of in a list.
    """

    starts: Ints
    ends: Ints
    head: int
    tail: int
    keyed: bool

    def __len__(self) -> int:
        return len(self.starts)


class JsonFile:
    """A file and where what lies in it. Pickles as that; the bytes stay on disk.

    Args:
        uri: Of the file; one that is not local is copied to a temporary file first.
        storage: File access.

    Attributes:
        uri: For messages.
        root: "object", "list" or "value": what the file is.
        small: Members of an object that are neither lists nor objects.

    Raises:
        ValueError: It is not JSON.
        StorageError: It cannot be read.
    """

    def __init__(self, uri: str, storage: Storage) -> None:
        self.uri = uri
        path = local_path(uri)
        self._copy = None if path is not None else _copied(uri, storage)
        self._path = str(path) if path is not None else str(self._copy and self._copy.name)
        self._file: int | None = None
        if path is not None:
            storage.info(uri)  # says in one line what is wrong with it
        self._size = os.stat(self._path).st_size
        self._begin = self._encoding()
        spans = self._scan()
        if not len(spans[0].starts):
            self._parse(self._bytes(self._begin, self._size), self._begin)
            self.root, self.small, self._members, self._inner = "value", {}, {}, spans[1]
            return
        self.root = "object" if self._bytes(int(spans[0].starts[0]), 1, True) == b"{" else "list"
        self.small: Mapping[str, Any] = {}
        self._members: dict[str, int] = {}
        if self.root == "list":
            self._inner = spans[1]
            self._expect_blank(self._begin, int(spans[0].starts[0]))
            self._expect_blank(int(spans[0].ends[-1]), self._size)
        else:
            self._read_skeleton(spans[1])
            self._outer, self._inner = spans[1], spans[2]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_copy": None}

    def has(self, name: str) -> bool:
        """Whether the object has a list or an object under this name."""
        return name in self._members

    @property
    def members(self) -> Sequence[str]:
        """Names of the object's lists and objects."""
        return list(self._members)

    def spans(self, name: str = "") -> Spans:
        """The entries of a member that are lists or objects; without a name, of the outermost list.

        Raises:
            ValueError: There is no such member.
        """
        if self.root == "list":
            return self._inner
        if name not in self._members:
            raise ValueError(f"{self.uri}: it has no {name}")
        at = self._members[name]
        start, end = int(self._outer.starts[at]), int(self._outer.ends[at])
        first, last = np.searchsorted(self._inner.starts, (start, end)).tolist()
        return Spans(
            starts=self._inner.starts[first:last],
            ends=self._inner.ends[first:last],
            head=start + 1,
            tail=end - 1,
            keyed=self._bytes(start, 1, True) == b"{",
        )

    def batches(
        self, spans: Spans, *, whole: Sequence[str] = ()
    ) -> Iterator[list[tuple[str | None, Any]]]:
        """All entries in their order, some megabytes at a time, each with its key or None.

        Among them may be what is neither list nor object, as null is: `spans` has no place of
        those, and the others are in the order of their places.

        Args:
            spans: Which.
            whole: Keys of entries under which whole numbers are due: they keep all their digits.

        Raises:
            ValueError: Something between them is not JSON, or a key stands twice.
        """
        before, first = spans.head, 0
        while before < spans.tail:
            last = int(np.searchsorted(spans.ends, before + _BLOCK, side="right"))
            last = min(max(last, first + 1), len(spans))
            end = int(spans.ends[last - 1]) if last < len(spans) else spans.tail
            text = self._bytes(before, end).strip(_BLANK)
            text = text[1:] if before > spans.head and text.startswith(b",") else text
            text = b"{" + text + b"}" if spans.keyed else b"[" + text + b"]"
            found = self._parse(text, before, whole)
            entries: list[tuple[str | None, Any]]
            entries = list(found.items()) if spans.keyed else [(None, item) for item in found]
            if sum(not is_scalar(item) for _, item in entries) != last - first:
                raise ValueError(f"{self.uri}: a key stands twice, near byte {before}")
            yield entries
            before, first = end, last

    def forget(self) -> None:
        """Drops the places of entries: whoever wants some again has kept theirs."""
        none = np.zeros(0, np.int64)
        self._inner = Spans(none, none, self._inner.head, self._inner.tail, self._inner.keyed)

    def read(self, starts: Ints, ends: Ints) -> list[Any]:
        """Entries by their places in the file, ascending; neighbours are read together."""
        found: list[Any] = []
        if not len(starts):
            return found
        cuts = np.flatnonzero(starts[1:] - ends[:-1] > 4096) + 1
        for first, last in zip([0, *cuts.tolist()], [*cuts.tolist(), len(starts)], strict=True):
            at = int(starts[first])
            text = memoryview(self._bytes(at, int(ends[last - 1])))
            for start, end in zip(
                starts[first:last].tolist(), ends[first:last].tolist(), strict=True
            ):
                found.append(self._parse(bytes(text[start - at : end - at]), start))
        return found

    def _bytes(self, start: int, end: int, length: bool = False) -> bytes:
        """Bytes from `start` to `end`, or that many."""
        if self._file is None:
            self._file = os.open(self._path, os.O_RDONLY)
        left = end if length else end - start
        pieces: list[bytes] = []
        while left > 0 and (piece := os.pread(self._file, left, start)):
            pieces.append(piece)
            start, left = start + len(piece), left - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            os.close(self._file)  # type: ignore[arg-type]

    def _encoding(self) -> int:
        head = self._bytes(0, 4)
        if head[:2] == b"\x1f\x8b":
            raise ValueError(f"{self.uri} is not JSON: it is compressed by gzip; unpack it first")
        if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head:
            raise ValueError(f"{self.uri} is not JSON in UTF-8: it looks like UTF-16")
        return 3 if head[:3] == b"\xef\xbb\xbf" else 0  # a byte order mark is none of the text

    def _parse(self, text: bytes, at: int, whole: Sequence[str] = ()) -> Any:
        try:
            found = orjson.loads(text)
            if not whole or not any(
                type(item.get(key)) is float for item in _objects(found) for key in whole
            ):
                return found
        except ValueError:
            pass  # NaN, or no JSON at all
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{self.uri} is not JSON: {reason}, after byte {at}") from None

    def _scan(self) -> list[Spans]:
        """The brackets of the first levels, from one pass over the file."""
        found: list[tuple[list[Ints], list[Ints]]] = [([], []) for _ in range(_DEEPEST)]
        state, at = (0, False, False), self._begin
        while block := self._bytes(at, _BLOCK, True):
            state = _brackets(block, at, state, found)
            at += len(block)
        depth, inside, _ = state
        if depth or inside:
            what = "a string" if inside else "a list or an object"
            raise ValueError(f"{self.uri} is not JSON: it ends within {what}: is it cut off?")
        none = np.zeros(0, np.int64)
        levels = [
            (np.concatenate([none, *opens]), np.concatenate([none, *closes]))
            for opens, closes in found
        ]
        if any(len(opens) != len(closes) for opens, closes in levels):
            raise ValueError(f"{self.uri} is not JSON: its brackets do not pair")
        if len(levels[0][0]) > 1:
            raise ValueError(
                f"{self.uri} is not JSON: something follows after byte {levels[0][1][0]}"
                + (", are these JSON lines?" if _LINES.match(self._bytes(0, 4096)) else "")
            )
        root = (int(levels[0][0][0]) + 1, int(levels[0][1][0]) - 1) if len(levels[0][0]) else (0, 0)
        return [Spans(opens, closes, *root, False) for opens, closes in levels]

    def _read_skeleton(self, members: Spans) -> None:
        """Names of members and the values of small ones: the object with its insides left out."""
        pieces: list[bytes] = []
        before = self._begin
        for number, (start, end) in enumerate(
            zip(members.starts.tolist(), members.ends.tolist(), strict=True)
        ):
            pieces += (self._bytes(before, start), b'{"":%d}' % number)
            before = end
        pieces.append(self._bytes(before, self._size))
        skeleton = self._parse(b"".join(pieces), self._begin)
        self._members = {
            name: item[""] for name, item in skeleton.items() if isinstance(item, dict)
        }
        self.small = {name: item for name, item in skeleton.items() if name not in self._members}

    def _expect_blank(self, start: int, end: int) -> None:
        if self._bytes(start, end).strip(_BLANK):
            raise ValueError(f"{self.uri} is not JSON: something stands after byte {start}")


_LINES = re.compile(rb"\s*\{[^\n]*\}\s*\n\s*\{")


def is_scalar(item: Any) -> bool:
    """Whether a value is neither an object nor a list; such entries have no place in `Spans`."""
    return not isinstance(item, dict | list)


def _objects(found: Any) -> Iterator[Mapping[str, Any]]:
    values = found.values() if isinstance(found, dict) else found
    return (item for item in values if isinstance(item, dict))


def _copied(uri: str, storage: Storage) -> Any:
    """A temporary file of the bytes at `uri`; it is gone with the object."""
    copy = tempfile.NamedTemporaryFile(prefix="maskmill-evaluate-", suffix=".json")  # noqa: SIM115
    size, at = storage.info(uri).size, 0
    while at < size:
        piece = storage.read(uri, offset=at, length=4 * _BLOCK)
        copy.write(piece)
        at += len(piece)
    copy.flush()
    return copy


def _brackets(
    block: bytes,
    at: int,
    state: tuple[int, bool, bool],
    found: list[tuple[list[Ints], list[Ints]]],
) -> tuple[int, bool, bool]:
    """Notes brackets of the first levels in a block.

    Args:
        block: Bytes.
        at: Position of the first of them.
        state: Open brackets before it, whether it begins within a string, and whether a backslash
            before it is about its first byte.
        found: By level: positions of opening brackets, and one past the closing ones; is added to.

    Returns:
        The state after the block.
    """
    depth, inside, escape = state
    kinds = _KIND[np.frombuffer(block, np.uint8)]
    if escape:
        kinds[0] = 0
        escape = False
    places = np.flatnonzero(kinds)
    kind = kinds[places]
    slashes = places[kind == _BACKSLASH]
    if len(slashes):
        new = np.append(True, np.diff(slashes) != 1)
        first, end = slashes[new], slashes[np.append(new[1:], True)] + 1
        escaped = np.zeros(len(block) + 1, np.bool_)
        escaped[end[(end - first) % 2 == 1]] = True
        escape = bool(escaped[-1])
        kept = (kind != _BACKSLASH) & ~escaped[places]
        places, kind = places[kept], kind[kept]
    quotes = kind == _QUOTE
    within = (np.cumsum(quotes) + inside) % 2 == 1
    if len(within):
        inside = bool(within[-1])
    structure = ~within & ~quotes
    places, steps = places[structure] + at, np.where(kind[structure] == _OPEN, 1, -1)
    level = depth + np.cumsum(steps)
    for number, (opens, closes) in enumerate(found, start=1):
        opens.append(places[(steps == 1) & (level == number)])
        closes.append(places[(steps == -1) & (level == number - 1)] + 1)
    return (int(level[-1]) if len(level) else depth), inside, escape
