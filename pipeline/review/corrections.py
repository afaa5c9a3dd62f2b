"""Corrections: pictures with the regions that a person left there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.masks import rle


@dataclass(frozen=True, slots=True)
class CorrectedRegion:
    """One region.

    Attributes:
        category: Its name.
        counts: Compressed RLE string.
        iscrowd: A region of objects that nobody outlined one by one.
    """

    category: str
    counts: bytes
    iscrowd: bool = False


@dataclass(frozen=True, slots=True)
class Correction:
    """A picture that a person went over, with all of its regions.

    Attributes:
        file_name: As the file has it.
        height: Of the picture, pixels; 0 where the file does not say.
        width: Likewise.
        regions: In the file's order.
        by: Who, "" where the file does not say.
        at: When, likewise.
        sha256: Of the bytes that the person was given, "" where the file does not say.
        problem: Why the picture cannot be taken, "" where it can.
    """

    file_name: str
    height: int
    width: int
    regions: tuple[CorrectedRegion, ...]
    by: str = ""
    at: str = ""
    sha256: str = ""
    problem: str = ""


def row_major(pixels: np.ndarray, height: int, width: int, *, left: int = 0, top: int = 0) -> bytes:
    """The compressed RLE string of a mask that lies somewhere in a picture.

    Args:
        pixels: hxw, nonzero inside.
        height: Of the picture, pixels.
        width: Of the same.
        left: Column of the mask's first pixel.
        top: Its row.

    Raises:
        ValueError: The mask does not lie in the picture.
    """
    h, w = pixels.shape
    if left < 0 or top < 0 or left + w > width or top + h > height:
        raise ValueError(f"a mask of {w} × {h} at {left}, {top} leaves the picture")
    rows, columns = np.nonzero(pixels.T)  # column by column
    line = (rows + left) * height + columns + top
    if not len(line):
        return rle.compress(np.array([height * width]), np.zeros(1, np.intp))[0]
    cuts = np.flatnonzero(np.diff(line) > 1)
    starts = line[np.append(0, cuts + 1)]
    ends = line[np.append(cuts, len(line) - 1)] + 1
    first = np.zeros(1, np.int64)
    return rle.compress(*rle.counts_of_runs(starts, ends, first, height * width))[0]
