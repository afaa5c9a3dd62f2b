"""A folder of label PNGs, one an image that was looked at: painted and written on threads."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.ledger.diff import carried_parts
from pipeline.ledger.ledger import Ledger
from pipeline.masks.rle import paint_runs
from pipeline.storage.errors import MissingError
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join

from .coco_parts import labelled_parts, looked_at
from .table import Standing
from .threads import bounded_map

# Names of the label PNGs: readable, inside their folder, and never two the same.

Hashes = npt.NDArray[np.uint64]
_PART_BYTES = 251
_PATH_BYTES = 700


class PngNames:
    """The PNG that belongs to each image.

    `street/a.v2.jpg` → `street/a.v2.png`, as the readers of COCO panoptic and semantic sets
    expect (the last suffix is replaced). Where two images would share that name, as `a.jpg` and
    `a.png` would, each keeps its own suffix: `a.jpg.png` and `a.png.png`. A name that no file
    system holds keeps its beginning and gets a hash (`_short`).

    Holds 24 bytes an image, whatever the length of the names.
    """

    def __init__(self, file_names: Iterable[str]) -> None:
        pairs = (_hash(text) for name in file_names for text in _stem_and_path(_inside(name)))
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
        stem, path = _stem_and_path(_inside(file_name))
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


def _stem_and_path(path: str) -> tuple[str, str]:
    return _short(posixpath.splitext(path)[0]), _short(path)


def named(png: str, suffix: str) -> str:
    """The name of a PNG of `PngNames` with another ending, cut where it would get too long."""
    folder, slash, name = png.removesuffix(".png").rpartition("/")
    most = _PART_BYTES + len(".png") - len(suffix)
    if len(_bytes(name)) > most:
        name = _cut(name, most)
    return folder + slash + name + suffix


def _short(path: str) -> str:
    """A path that file systems hold; different paths give different ones.

    A part of more than 251 bytes (".png" makes it 255, the limit of ext4, XFS, APFS and NTFS), or
    with a NUL, keeps its beginning and gets "~" and a hash of the whole part. Where the whole
    path is longer than 700 bytes (S3's keys have at most 1,024), so do its folders, as one.
    """
    if len(path) < _PART_BYTES // 4 and "\0" not in path:
        return path
    path = "/".join(
        _cut(part, _PART_BYTES) if len(_bytes(part)) > _PART_BYTES or "\0" in part else part
        for part in path.split("/")
    )
    folders, slash, name = path.rpartition("/")
    if len(_bytes(path)) > _PATH_BYTES:
        folders = _cut(folders.replace("/", "_"), _PART_BYTES, whole=folders)
    return folders + slash + name


def _cut(text: str, most: int, whole: str = "") -> str:
    mark = f"~{_hash(whole or text):016x}"
    start = _bytes(text.replace("\0", "_"))[: most - len(mark)]
    return start.decode("utf-8", "ignore") + mark


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _hash(text: str) -> int:
    digest = hashlib.blake2b(_bytes(text), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def _contains(table: Hashes, values: Hashes) -> npt.NDArray[np.bool_]:
    """Which of `values` are in the sorted `table`."""
    if not len(table):
        return np.zeros(len(values), np.bool_)
    return table[np.minimum(np.searchsorted(table, values), len(table) - 1)] == values


@dataclass(frozen=True, slots=True)
class PngJob:
    """One image's label map to be.

    Attributes:
        file_name: Of the image.
        height: Pixels.
        width: Pixels.
        texts: The segments' compressed RLE strings.
        values: What each segment's pixels become.
    """

    file_name: str
    height: int
    width: int
    texts: pa.StringArray
    values: npt.NDArray[np.int64]

    def digest(self) -> int:
        """64 bits of all that the map depends on."""
        found = hashlib.blake2b(f"{self.height} {self.width}".encode(), digest_size=8)
        found.update(np.ascontiguousarray(self.values, "<i8").tobytes())
        found.update("\0".join(self.texts.to_pylist()).encode())
        return int.from_bytes(found.digest(), "little")


def write_pngs(
    ledger: Ledger,
    folder: str,
    names: PngNames,
    *,
    column: str,
    pixels: Callable[[npt.NDArray[np.int32]], npt.NDArray[Any]],
    before: Standing | None = None,
) -> int:
    """Writes the label map of every image that was looked at, but those that are there already.

    Args:
        ledger: Whose segments do not overlap within an image.
        folder: URI of the PNGs' folder.
        names: Of the PNGs.
        column: The annotation column whose values the map holds; pixels outside all segments
            are 0.
        pixels: Map (HxW int32) → what cv2 writes (HxW uint8 or uint16, or HxWx3 uint8 in BGR).
        before: What this takes the place of, made with the same `column` and `pixels`: the maps
            of images whose rows are the same are kept. None = paint all.

    Returns:
        PNGs of the ledger, painted or left.

    Raises:
        StorageError: The folder cannot be written.
        ValueError: The ledger's segments overlap or are malformed.
    """

    def write(picture: PngJob) -> None:
        try:
            painted = paint_runs(picture.texts, picture.values, picture.height, picture.width)
        except ValueError as error:
            raise ValueError(f"{picture.file_name}: {error}; run jobs.validate") from error
        # OpenCV's own settings (sub filter, run-length strategy) are three times as fast as any
        # explicit compression level, and the files as small: an explicit one turns on libpng's
        # search for the best filter of every row.
        done, data = cv2.imencode(".png", pixels(painted))
        if not done:
            raise ValueError(f"{picture.file_name}: its label map could not be encoded")
        ledger.storage.write(join(folder, names[picture.file_name]), data.tobytes())

    left = 0

    def due() -> Iterator[PngJob]:
        nonlocal left
        if before is None:
            yield from pictures(ledger, column)
            return
        for found in _changed(ledger, before, column, lambda name: join(folder, names[name])):
            if isinstance(found, PngJob):
                yield found
            else:
                left += found

    painted = sum(1 for _ in bounded_map(write, due()))
    return painted + left


def _changed(
    ledger: Ledger, before: Standing, column: str, uri: Callable[[str], str]
) -> Iterator[PngJob | int]:
    """The maps that must be painted; a number counts some that are kept.

    Parts of both versions are not read but for their names. Of the others each image is compared
    by 64 bits of its rows: a part may be new for one image of hundreds.

    Args:
        ledger: The new version.
        before: What is there.
        column: Of the maps.
        uri: File name → where its map would be.
    """
    same = carried_parts(before.ledger, ledger)
    old = _Digests(before.ledger, same, column)
    for part in ledger.manifest.parts:
        own = ledger.of_parts([part])
        if part.name in same:
            tables = (looked_at(table) for table in own.images(["file_name", "status"]))
            files = [name for table in tables for name in table["file_name"].to_pylist()]
            lost = {name for name in files if not before.keep(uri(name))}
            yield len(files) - len(lost)
            if lost:
                yield from (one for one in pictures(own, column) if one.file_name in lost)
            continue
        for picture in pictures(own, column):
            yield 1 if picture in old and before.keep(uri(picture.file_name)) else picture


class _Digests:
    """The label maps of a version, but of some parts: 16 bytes an image."""

    def __init__(self, ledger: Ledger, leave: frozenset[str], column: str) -> None:
        parts = [part for part in ledger.manifest.parts if part.name not in leave]
        found = [
            (_hash(one.file_name), one.digest()) for one in pictures(ledger.of_parts(parts), column)
        ]
        table = np.array(found, np.uint64).reshape(-1, 2)
        self._names, self._values = table[np.argsort(table[:, 0])].T

    def __contains__(self, picture: PngJob) -> bool:
        at = int(np.searchsorted(self._names, np.uint64(name := _hash(picture.file_name))))
        if at == len(self._names) or int(self._names[at]) != name:
            return False
        return int(self._values[at]) == picture.digest()


def remove_others(storage: Storage, folder: str, names: PngNames) -> None:
    """Removes the PNGs in `folder` that belong to no image any more."""
    try:
        for entry in storage.list(folder, hidden=True):
            if entry.path.endswith(".png") and entry.path not in names:
                storage.remove(entry.uri)
    except MissingError:
        return  # no image, no folder


def pictures(ledger: Ledger, column: str) -> Iterator[PngJob]:
    """The label maps of all images that were looked at, values from an annotation column."""
    wanted = labelled_parts(ledger, ["file_name", "height", "width"], ["rle", column])
    for part in wanted:
        texts = pa.chunked_array(
            [chunk.field("counts") for chunk in part.annotations["rle"].chunks], pa.string()
        )
        values = part.annotations[column].to_numpy()
        rows = part.images.select(["file_name", "height", "width"]).to_pylist()
        for index, row in enumerate(rows):
            begin, end = part.bounds[index], part.bounds[index + 1]
            own = texts.slice(begin, end - begin).combine_chunks()
            yield PngJob(texts=own, values=values[begin:end], **row)
