"""Where SAM "everything" looks: a grid of points, and crops of the picture in layers.

The rules are those of the segment-anything package (`utils/amg.py`), which the tests hold them to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from schemas.prompt_config import EverythingConfig


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of a picture that is looked at by itself.

    Attributes:
        box_xyxy: Left, top, right, bottom; pixels of the picture.
        layer: 0 = the whole picture.
        points_xy: N×2 float64, in pixels of the crop.
    """

    box_xyxy: tuple[int, int, int, int]
    layer: int
    points_xy: npt.NDArray[np.float64]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width, pixels."""
        left, top, right, bottom = self.box_xyxy
        return bottom - top, right - left


def crops(height: int, width: int, config: EverythingConfig) -> list[Crop]:
    """The whole picture, then 4, 16, … overlapping parts a layer, column by column.

    Args:
        height: Of the picture, pixels.
        width: Of the same.
        config: `crop_n_layers`, `crop_overlap_ratio`, `points_per_side` and
            `crop_n_points_downscale_factor`.
    """
    found = [_crop((0, 0, width, height), 0, config)]
    for layer in range(1, config.crop_n_layers + 1):
        count = 2**layer
        overlap = int(config.crop_overlap_ratio * min(height, width) * (2 / count))
        long_x, long_y = (_length(side, count, overlap) for side in (width, height))
        for column, row in product(range(count), range(count)):
            left, top = (long_x - overlap) * column, (long_y - overlap) * row
            box = (left, top, min(left + long_x, width), min(top + long_y, height))
            if box[2] > left and box[3] > top:
                found.append(_crop(box, layer, config))
    return found


def grid(points_per_side: int) -> npt.NDArray[np.float64]:
    """N²×2 points (x, y) in 0…1, the middles of N×N equal cells, row by row."""
    middle = 1 / (2 * points_per_side)
    side = np.linspace(middle, 1 - middle, points_per_side)
    x, y = np.meshgrid(side, side)
    return np.stack((x, y), -1).reshape(-1, 2)


def _crop(box: tuple[int, int, int, int], layer: int, config: EverythingConfig) -> Crop:
    side = int(config.points_per_side / config.crop_n_points_downscale_factor**layer)
    scale = np.array([box[2] - box[0], box[3] - box[1]], np.float64)
    return Crop(box, layer, grid(max(side, 1)) * scale)


def _length(side: int, count: int, overlap: int) -> int:
    return math.ceil((overlap * (count - 1) + side) / count)
