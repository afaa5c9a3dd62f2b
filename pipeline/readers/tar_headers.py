"""The members of a tar from its headers: names, places and sizes, at microseconds a member.

The rules are POSIX's (ustar, pax) and GNU's (long names, base-256 numbers); `tarfile` is the peer
of the tests. It costs 50 µs a member, for it takes thirteen fields apart where three are needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event
from typing import Protocol

import numpy as np
import numpy.typing as npt

BLOCK = 512
_CHECK = 1024
_PADDING = 1 << 20
"""Zeros at the end of a tar, at most: records are padded to 10 KiB, rarely to more."""
_GNU_LONG = {b"L": "path", b"K": "linkpath"}
_FILE = b"0\0"
_AFTER_SIZE = b"\0 "
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")
_KINDS = {
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"5": "folder",
    b"6": "a named pipe",
    b"S": "a sparse member",
}
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


class TarBytes(Protocol):
    """The bytes of a tar, asked for in rising order."""

    def at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer at the end."""
        ...

    def reaches(self, offset: int) -> bool:
        """Whether there are at least `offset` bytes."""
        ...


@dataclass(slots=True)
class Members:
    """The members of a tar, in its order.

    Attributes:
        names: As they are written, bytes that are not UTF-8 as surrogates.
        kinds: "" for a file, else "folder", "hard link", "symbolic link", "a device", ….
        offsets: First byte of each one's data.
        sizes: Of the data, bytes.
        links: Position of a link → what it names.
        damage: Why the tar could not be read to its end, or "".
    """

    names: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    links: dict[int, str] = field(default_factory=dict)
    damage: str = ""


def compression_of(start: bytes) -> str:
    """ "gzip", "bzip2", "xz" or "zstd" by a file's first bytes; "" for a plain one."""
    return next((name for magic, name in _COMPRESSED.items() if start.startswith(magic)), "")


def read_members(source: TarBytes, stop: Event | None = None) -> Members:
    """Walks over a tar, also over several that were written one behind the other.

    What a damaged tar holds before its damage is given, and the damage told. Once `stop` is set,
    what it gives is wanted by nobody.
    """
    walk = _Walk(source)
    while not walk.found.damage and (stop is None or not stop.is_set()):
        walk.plain_files()
        if not walk.flush() or not walk.other_header():
            break
    return walk.found


class _Walk:
    """Where a walk over headers stands: `plain_files` takes what is common, fast, and
    `other_header` everything else, one at a time."""

    def __init__(self, source: TarBytes) -> None:
        self.source = source
        self.found = Members()
        self.at = 0
        self.ended = False
        self.globally: dict[str, str] = {}
        self.own: dict[str, str] = {}
        self.run: list[bytes] = []  # headers of plain files whose sums are not yet checked
        self.starts: list[int] = []
        self.sizes: list[int] = []

    def plain_files(self) -> None:
        """Notes the headers of files that need no other header, as far as they go."""
        if self.own or self.globally:
            return
        at, source, run = self.at, self.source, self.run
        start_of, size_of = self.starts.append, self.sizes.append
        while len(run) < _CHECK:
            header = source.at(at, BLOCK)
            if len(header) < BLOCK or header[156] not in _FILE or header[345]:
                break
            if header[257:262] != b"ustar" or header[135] not in _AFTER_SIZE or not header[0]:
                break
            try:
                size = int(header[124:135], 8)
            except ValueError:
                break
            end = at + BLOCK + size
            if size < 0 or not source.reaches(end):
                break
            run.append(header)
            start_of(at + BLOCK)
            size_of(size)
            at = end + 511 & ~511
        self.at = at

    def flush(self) -> bool:
        """Takes the noted files over, up to the first whose header's sum is wrong."""
        if not self.run:
            return True
        self.ended = False
        found, joined = self.found, b"".join(self.run)
        table = np.frombuffer(joined, np.uint8).reshape(-1, BLOCK)
        sums = table.sum(1, dtype=np.uint32) - table[:, 148:156].sum(1, dtype=np.uint32) + 8 * 32
        right = _octal(table[:, 148:154]) == sums
        good = len(right) if right.all() else int(np.argmin(right))
        if good < len(right) and _is_header(self.run[good]):  # a sum that is written otherwise
            good = next(
                (n for n, header in enumerate(self.run) if not _is_header(header)), len(right)
            )
        names = _names_of(table[:good])
        found.names += names
        found.kinds += ["folder" if name.endswith("/") else "" for name in names]
        found.offsets += self.starts[:good]
        found.sizes += self.sizes[:good]
        if good < len(right):
            found.damage = f"bad header at byte {self.starts[good] - BLOCK}"
            return False
        self.run, self.starts, self.sizes = [], [], []
        return True

    def other_header(self) -> bool:
        """Takes one header of any kind, or the end; whether there may be more."""
        found, source, at = self.found, self.source, self.at
        header = source.at(at, BLOCK)
        if len(header) < BLOCK:
            if at == 0 and not header:
                found.damage = "the file is empty (0 bytes)"
            elif header:
                found.damage = f"cut off at byte {at + len(header)}, inside a header"
            elif not self.ended:
                found.damage = f"cut off at byte {at}: it has no end mark"
            return False
        if header[0] == 0 and not header.strip(b"\0"):
            self.ended, self.at = True, _after_zeros(source, at + BLOCK)
            if self.at - at > _PADDING and not source.at(self.at, 1):
                found.damage = f"its last {self.at - at} bytes are zeros: it was not copied whole"
            return True
        size = _number(header[124:136])
        if size < 0 or not _is_header(header):
            found.damage = _strange(header, at, self.ended)
            return False
        self.ended = False
        if header[156:157] in b"xgLK":
            return self._extended(header[156:157], at, size)
        return self._member(header, at, size)

    def _extended(self, kind: bytes, at: int, size: int) -> bool:
        """A header that says something of the next one, or of all that follow."""
        data = at + BLOCK
        text = self.source.at(data, size) if size <= 1 << 20 else b""
        if len(text) < size:
            self.found.damage = f"cut off inside the header at byte {at}"
            return False
        if kind in b"xg":
            (self.own if kind == b"x" else self.globally).update(_pax_records(text))
        else:
            self.own[_GNU_LONG[kind]] = _text(text)
        self.at = data + (size + 511 & ~511)
        return True

    def _member(self, header: bytes, at: int, size: int) -> bool:
        found, kind, data = self.found, header[156:157], at + BLOCK
        name = _name(header)
        sparse = kind == b"S"
        more = sparse and header[482]
        while more:  # further blocks of its map
            block = self.source.at(data, BLOCK)
            data += BLOCK
            more = len(block) == BLOCK and block[504]
        said = {**self.globally, **self.own}
        name = said.get("path", name)
        sparse = sparse or any(key.startswith("GNU.sparse") for key in said)
        size = int(said["size"]) if said.get("size", "").isdigit() else size
        if kind in b"12":
            found.links[len(found.names)] = said.get("linkpath") or _text(header[157:257])
        word = "" if kind in (b"0", b"\0", b"7") else _KINDS.get(kind, f"a member of type {kind!r}")
        if kind == b"\0" and name.endswith("/"):
            word = "folder"  # as it was before there were types
        self.own = {}
        end = data if kind in _WITHOUT_DATA else data + size
        if not self.source.reaches(end):
            found.damage = f"cut off: it ends inside {name.encode('utf-8', 'replace').decode()}"
            return False
        found.names.append(name)
        found.kinds.append("a sparse member" if sparse else word)
        found.offsets.append(data)
        found.sizes.append(size)
        self.at = end + 511 & ~511
        return True


def _names_of(table: npt.NDArray[np.uint8]) -> list[str]:
    """The names of headers without a prefix. N x 512."""
    if not len(table):
        return []
    fields = table[:, :100].copy().view("S100")[:, 0].tolist()
    text = b"/".join(fields)
    if b"\0" in text or b"\n" in text:
        return [_text(one) for one in fields]
    return b"\n".join(fields).decode("utf-8", "surrogateescape").split("\n")


def _octal(digits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Six octal digits a row as numbers; what is no digit gives a wrong one."""
    return (digits - np.uint8(48)).astype(np.uint32) @ (8 ** np.arange(5, -1, -1)).astype(np.uint32)


def _name(header: bytes) -> str:
    name = _text(header[:100])
    if header[345] and header[257:263] == b"ustar\0":
        return f"{_text(header[345:500])}/{name}"
    return name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _number(text: bytes) -> int:
    """An octal number, or GNU's base 256; −1 for something else."""
    if text[0] == 0x80:
        return int.from_bytes(text[1:], "big")
    try:
        return int(text.partition(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        return -1


def _pax_records(text: bytes) -> dict[str, str]:
    """ "LENGTH KEY=VALUE\\n" repeated; what is malformed ends it."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        digits, space, _ = text[at : at + 20].partition(b" ")
        if not space or not digits.isdigit() or not int(digits):
            break
        record = text[at + len(digits) + 1 : at + int(digits) - 1]
        key, mark, value = record.partition(b"=")
        if not mark:
            break
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        at += int(digits)
    return found


def _is_header(header: bytes) -> bool:
    """Whether the sum of a header's bytes is the one that it gives."""
    return _number(header[148:156]) == sum(header) - sum(header[148:156]) + 8 * 32


def _strange(header: bytes, at: int, ended: bool) -> str:
    if at == 0:
        return f"no tar: it begins with {header[:16]!r}"
    if ended:
        return f"behind its end mark, at byte {at}, stands what is no tar header"
    return f"bad header at byte {at}"


def _after_zeros(source: TarBytes, at: int) -> int:
    """The next block that is not all zeros, or where the bytes end."""
    while True:
        step = source.at(at, BLOCK * 32)
        rest = step.lstrip(b"\0")
        if rest or len(step) < BLOCK * 32:
            # A last, short block of zeros is part of the padding.
            return at + ((len(step) - len(rest)) & ~511 if rest else len(step))
        at += len(step)
