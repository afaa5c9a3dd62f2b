"""Masks of every awkward kind, and tables of runs made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.masks import codec
from pipeline.masks.column_runs import MaskRuns, mask_runs

Mask = npt.NDArray[np.bool_]


def runs_of(stack: Sequence[Mask]) -> MaskRuns:
    """The runs of masks, each in a picture of its own size."""
    return mask_runs(
        pa.array([codec.encode(mask).decode() for mask in stack]),
        np.array([mask.shape[0] for mask in stack]),
        np.array([mask.shape[1] for mask in stack]),
    )


def drawn(*lines: str) -> Mask:
    """A mask from text: "#" is inside."""
    return np.array([[character == "#" for character in line] for line in lines])


def band(height: int, width: int, angle: float, half: float) -> Mask:
    """A stripe through the middle."""
    y, x = np.mgrid[:height, :width]
    across = (y - height / 2) * np.cos(angle) + (x - width / 2) * np.sin(angle)
    return np.abs(across) < half


def disc(height: int, width: int, y: float, x: float, radius: float) -> Mask:
    """A disc, perhaps cut by the picture's edge."""
    rows, columns = np.mgrid[:height, :width]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def far_pixel() -> Mask:
    """A square in one corner, a single pixel in the other."""
    mask = np.zeros((70, 90), bool)
    mask[:9, -9:] = mask[-1, 0] = True
    return mask


ZOO = {
    "one pixel picture": drawn("#"),
    "one pixel": drawn("...", "..#"),
    "two pixels": drawn("##"),
    "corner to corner": drawn("#.", ".#"),
    "row": drawn(".....", "#####", "....."),
    "column": drawn(".#.", ".#.", ".#."),
    "long diagonal": np.eye(200, dtype=bool),
    "whole picture": np.ones((7, 11), bool),
    "last column and first": drawn("#..#", "#..#", "#..#"),
    "ring": drawn("####", "#..#", "#..#", "####"),
    "hole at a corner": drawn("##.", "#.#", ".##"),
    "dot in a ring": drawn("#####", "#...#", "#.#.#", "#...#", "#####"),
    "parts": drawn("##...", "##..#", ".....", "#..##"),
    "comb": drawn("#.#.#.#", "#######"),
    "chessboard": np.indices((9, 8)).sum(0) % 2 == 0,
    "cross": drawn(".#.", "###", ".#."),
    "thin slant": band(40, 90, 1.1, 0.4),
    "wide slant": band(60, 31, 2.0, 5.2),
    "disc": disc(41, 40, 20, 19.5, 15.3),
    "disc at the edge": disc(30, 50, 2, 48, 20),
    "far pixel": far_pixel(),
}  # fmt: skip

any_mask = (
    st.tuples(st.integers(1, 24), st.integers(1, 24))
    .flatmap(lambda hw: arrays.arrays(np.bool_, hw))
    .filter(lambda mask: bool(mask.any()))
)
"""Any mask with a pixel."""
