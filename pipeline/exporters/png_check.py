"""Checks folders of label PNGs against the ledger, pixel by pixel."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.images.sniff import is_cut
from pipeline.ledger.ledger import Ledger
from pipeline.masks.rle import paint_runs
from pipeline.storage.errors import MissingError
from pipeline.storage.prefixes import FolderFiles

from .png_folder import PngJob, PngNames, pictures
from .table import Report
from .threads import bounded_map

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
RGB_8 = (8, 2)
"""Mode of colour PNGs: bits a channel, and the colour type of the PNG specification (IHDR)."""


def grey(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The mode of single-channel PNGs of this type."""
    return 8 * dtype.itemsize, 0


def check_pngs(
    ledger: Ledger,
    folder: str,
    names: PngNames,
    *,
    column: str,
    mode: tuple[int, int],
    expected: Callable[[npt.NDArray[np.int32]], npt.NDArray[Any]],
    read: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
    report: Report,
) -> None:
    """Every image has its PNG and no other is there; each has the ledger's pixels.

    Args:
        ledger: The dataset.
        folder: URI of the PNGs.
        names: Of the PNGs.
        column: The annotation column that the label map is painted with.
        mode: Bits a channel and colour type, as the PNG's header says them.
        expected: Label map (HxW int32) → what `read` should give.
        read: What cv2 reads → HxW integers.
        report: Takes what differs.
    """

    files = FolderFiles(ledger.storage, folder)

    def look(picture: PngJob) -> tuple[str, str] | None:
        name = names[picture.file_name]
        try:
            data = ledger.storage.read(files.uri(name))
        except MissingError:
            return "export-png-missing", name
        size = (picture.width, picture.height)
        if (problem := _header(data, size, mode)) is not None:
            return "export-png-mode", f"{name}: {problem}"
        # OpenCV takes as much memory as a cut file says that its parts are long.
        cut = is_cut("PNG", data)
        pixels = None if cut else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            return "export-png-pixels", f"{name}: it cannot be decoded"
        there = read(pixels)
        due = expected(paint_runs(picture.texts, picture.values, picture.height, picture.width))
        if np.array_equal(there, due):
            return None
        return "export-png-pixels", f"{name}: {_difference(there, due)}"

    for problem in bounded_map(look, pictures(ledger, column)):
        if problem is not None:
            report(*problem)
    for name in chain(_paths(ledger, folder), files.elsewhere()):
        if name.endswith(".png") and name not in names:
            report("export-png-stray", name)


def _paths(ledger: Ledger, folder: str) -> Iterator[str]:
    try:
        yield from (entry.path for entry in ledger.storage.list(folder, hidden=True))
    except MissingError:
        return  # no image was looked at, all PNGs lie elsewhere, or are missing and reported


def _header(data: bytes, size: tuple[int, int], mode: tuple[int, int]) -> str | None:
    """What is wrong with a PNG's IHDR chunk: width, height, bits a channel, colour type."""
    if len(data) < 26 or not data.startswith(_SIGNATURE):
        return "it is no PNG"
    width, height, bits, colour = struct.unpack(">IIBB", data[16:26])
    if (width, height) != size:
        return f"it is {width}x{height} pixels, the image {size[0]}x{size[1]}"
    if (bits, colour) != mode:
        return f"{bits} bits of colour type {colour}, not {mode[0]} of type {mode[1]}"
    return None


def _difference(there: npt.NDArray[Any], due: npt.NDArray[Any]) -> str:
    found, known = np.unique(there), np.unique(due)
    if len(stray := np.setdiff1d(found, known)):
        return f"it holds {stray[0]}, which no segment of the image is"
    if len(lost := np.setdiff1d(known, found)):
        return f"{lost[0]} is not in it"
    return f"{np.count_nonzero(there != due)} pixels differ"
