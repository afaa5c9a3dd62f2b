"""Holds a JSON file of ours against what the ledger would write today, line by line."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest
from typing import BinaryIO

import numpy as np
import orjson
import pyarrow as pa

from .json_write import END
from .table import Report

_ID = re.compile(rb'^\{"(?:id|image_id)":(\d+)[,}]')


class JsonLines:
    """Reads a file of `write_object`'s layout once, from top to bottom.

    Attributes:
        head: The small values before the lists.
    """

    def __init__(self, file: BinaryIO, first: str) -> None:
        """Reads the head.

        Args:
            file: At its beginning.
            first: Key of the first list after the head.

        Raises:
            ValueError: The file has another layout.
        """
        self._file = file
        self.head: dict[str, object] = {}
        text = b""
        for line in file:
            if line.startswith(orjson.dumps(first) + b":["):
                self._next = line
                break
            text += line
        else:
            raise ValueError(f"it holds no list of {first}")
        try:
            self.head = orjson.loads(text.removesuffix(END.encode()) + b"}")
        except orjson.JSONDecodeError as error:
            raise ValueError(str(error)) from error

    def entries(self, key: str) -> Iterator[bytes]:
        """The lines of the next list, which must have this key.

        Raises:
            ValueError: Another key follows, or the file ends too early.
        """
        name, _, rest = self._next.partition(b":")
        if name != orjson.dumps(key):
            raise ValueError(f"expected {key!r}, found {name[:40].decode(errors='replace')}")
        if rest.startswith(b"[]"):
            self._next = next(self._file, b"")
            return
        for line in self._file:
            if line.startswith(b"]"):
                self._next = next(self._file, b"")
                return
            yield line.rstrip(b"\n").removesuffix(b",")
        raise ValueError(f"the file ends within {key!r}")


def list_entries(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file of `write_list`'s layout.

    Raises:
        ValueError: The file has another layout.
    """
    first = next(file, b"")
    if first == b"[]\n":
        return
    if first != b"[\n":
        raise ValueError("it is no list of one entry a line")
    for line in file:
        if line == b"]\n":
            return
        yield line.rstrip(b"\n").removesuffix(b",")
    raise ValueError("the file ends within its list")


def compare_entries(
    rule: str,
    kind: str,
    found: Iterable[bytes],
    expected: Iterable[pa.StringArray],
    report: Report,
) -> None:
    """Reports entries that are missing, too many, different, or in another order.

    Args:
        rule: That they break.
        kind: Of the ids that entries begin with.
        found: Lines of the file.
        expected: Pieces as exporters make them.
        report: Takes what differs.
    """
    wanted = (text.removesuffix(END).encode() for piece in expected for text in piece.to_pylist())
    pairs = zip_longest(found, wanted)
    for line, entry in pairs:
        if line == entry:
            continue
        if line is not None and entry is not None and (number := _id(entry)) == _id(line):
            report(rule, f"{kind} {number} differs")
            continue
        # From the first entry that is out of step, only the sets of ids are compared.
        there, due = array("q"), array("q")
        for a, b in chain([(line, entry)], pairs):
            if a is not None:
                there.append(_id(a))
            if b is not None:
                due.append(_id(b))
        missing, extra = np.setdiff1d(due, there), np.setdiff1d(there, due)
        for number in missing.tolist():
            report(rule, f"{kind} {number} is missing")
        for number in extra.tolist():
            report(rule, f"{kind} {number} is not in the dataset")
        if not len(missing) and not len(extra):
            report(rule, f"{kind} {_id(line)} is out of order or doubled")
        return


def _id(line: bytes | None) -> int:
    match = _ID.match(line or b"")
    return int(match[1]) if match else -1
