"""Names of the label PNGs: readable, inside their folder, and never two the same."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from pipeline.ledger import Ledger

from .coco_parts import looked_at

Hashes = npt.NDArray[np.uint64]


class PngNames:
    """The PNG that belongs to each image.

    `street/a.v2.jpg` → `street/a.v2.png`, as the readers of COCO panoptic and semantic sets
    expect (the last suffix is replaced). Where two images would share that name, as `a.jpg` and
    `a.png` would, each keeps its own suffix: `a.jpg.png` and `a.png.png`.

    Holds 24 bytes an image, whatever the length of the names.
    """

    def __init__(self, file_names: Iterable[str]) -> None:
        pairs = (value for name in file_names for value in _stem_and_path(_inside(name)))
        stems, paths = np.fromiter(pairs, np.uint64).reshape(-1, 2).T
        # A stem is free if no other image has it, neither as its stem nor as its whole path.
        values, counts = np.unique(np.append(stems, paths[paths != stems]), return_counts=True)
        self._taken: Hashes = values[counts > 1]
        self._final: Hashes = np.sort(np.where(_contains(self._taken, stems), paths, stems))

    @classmethod
    def of_ledger(cls, ledger: Ledger) -> PngNames:
        """For the images that have a PNG: the ones that were looked at."""
        tables = (looked_at(table) for table in ledger.images(["file_name", "status"]))
        return cls(name for table in tables for name in table["file_name"].to_pylist())

    def __getitem__(self, file_name: str) -> str:
        """The PNG's path relative to its folder, "/"-separated."""
        path = _inside(file_name)
        stem = posixpath.splitext(path)[0]
        taken = bool(_contains(self._taken, np.array([_hash(stem)], np.uint64))[0])
        return (path if taken else stem) + ".png"

    def __contains__(self, png: str) -> bool:
        """Whether this path relative to the folder is the PNG of one of the images."""
        stem = np.array([_hash(png.removesuffix(".png"))], np.uint64)
        return png.endswith(".png") and bool(_contains(self._final, stem)[0])


def _inside(file_name: str) -> str:
    """A path that cannot leave its folder; different names give different paths.

    The parts that mean something to a file system ("", ".", "..") get a "%" in front, so do
    folders that could be mistaken for a PNG, and so do parts that begin with a "%" anyway.
    """
    *folders, name = file_name.split("/")
    marked = ["%" * (part[:1] == "%" or part.endswith(".png")) + part for part in folders]
    marked.append("%" * (name[:1] == "%") + name)
    return "/".join("%" + part if part in ("", ".", "..") else part for part in marked)


def _stem_and_path(path: str) -> tuple[int, int]:
    return _hash(posixpath.splitext(path)[0]), _hash(path)


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def _contains(table: Hashes, values: Hashes) -> npt.NDArray[np.bool_]:
    """Which of `values` are in the sorted `table`."""
    if not len(table):
        return np.zeros(len(values), np.bool_)
    return table[np.minimum(np.searchsorted(table, values), len(table) - 1)] == values
