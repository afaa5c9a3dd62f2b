"""Small TIFFs in tiles, and the places at which what is read of them is held against the whole."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import tifffile

COLOR = np.kron(
    np.random.default_rng(8).integers(0, 256, (11, 17, 3)), np.ones((12, 12, 1))
).astype(np.uint8)
"""132×204×3, in blocks of one colour."""

PLACES = (
    *(np.s_[:, :], np.s_[10:20], np.s_[31:33, 47:49], np.s_[40:999, 50:999]),
    *(np.s_[100:999, 150:999], np.s_[5:5, 3:9], np.s_[:, :, :1], np.s_[-7:, -3:]),
)
"""Whole, across the edges of tiles and bands, beyond the picture, nothing, one channel, the end."""


def written(values: np.ndarray, **options: Any) -> bytes:
    """A TIFF of tiles of 32×48."""
    file = io.BytesIO()
    settings = {"tile": (32, 48), "metadata": None, "photometric": "rgb", **options}
    tifffile.imwrite(file, values, **settings)
    return file.getvalue()
