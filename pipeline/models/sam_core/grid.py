"""Where SAM "everything" looks: a grid of points, and crops of the picture in layers.

The rules are those of the segment-anything package (`utils/amg.py`), which the tests hold them to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from pipeline.masks import codec
from schemas.config.prompts import EverythingConfig
from schemas.records import Segment


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


# The segment-anything package's clean-up of masks: small holes filled, small islands removed.

Mask = npt.NDArray[np.uint8]


def without_small_regions(
    segments: Sequence[Segment], height: int, width: int, *, min_area: int, nms_thresh: float
) -> list[Segment]:
    """Cleans every mask, then drops duplicates; those that needed no cleaning go before.

    Args:
        segments: Of one picture.
        height: Of the picture, pixels.
        width: Of the same.
        min_area: Smaller holes and islands go; the largest island always stays.
        nms_thresh: Of boxes, whose right and bottom are those of the last pixel, as the package
            takes them.
    """
    if not segments:
        return []
    cleaned, untouched = zip(
        *(_cleaned(one, height, width, min_area) for one in segments), strict=True
    )
    boxes = torch.tensor(
        [(x, y, x + w - 1, y + h - 1) for x, y, w, h in (one.bbox_xywh for one in cleaned)]
    )
    kept = box_nms(boxes, torch.tensor(untouched), nms_thresh)
    return [cleaned[index] for index in kept.tolist()]


def box_nms(boxes: Tensor, scores: Tensor, limit: float) -> Tensor:
    """Indices that stay, the best first.

    Args:
        boxes: N×4, left, top, right, bottom of the last pixel, as the package takes them.
        scores: N.
        limit: IoU above which the lower score goes.
    """
    return batched_nms(boxes.float(), scores.float(), torch.zeros_like(boxes[:, 0]), limit)


def _cleaned(segment: Segment, height: int, width: int, min_area: int) -> tuple[Segment, bool]:
    """The cleaned segment, and whether nothing had to be done."""
    mask = codec.decode(segment.counts, height, width)
    filled = _toggled(mask, min_area, holes=True)
    clean = _toggled(filled, min_area, holes=False)
    if clean is mask:
        return segment, True
    counts = codec.encode(clean)
    box = codec.bbox_xywh(counts, height, width)
    return replace(segment, counts=counts, area=int(clean.sum()), bbox_xywh=box), False


def _toggled(mask: Mask, min_area: int, *, holes: bool) -> Mask:
    """The mask without its small holes or islands; itself where there are none."""
    plane = 1 - mask if holes else mask
    count, regions, stats, _ = cv2.connectedComponentsWithStats(plane, connectivity=8)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    small = sizes < min_area
    if not small.any():
        return mask
    if not holes and small.all():
        small[int(sizes.argmax())] = False
    turned = np.zeros(count, np.uint8)
    turned[1:] = small
    return mask ^ turned[np.asarray(regions, np.intp)]
