"""The segment-anything package's clean-up of masks: small holes filled, small islands removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import batched_nms

from pipeline import masks
from schemas.records import Segment

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
    scores = torch.tensor(untouched, dtype=torch.float32)
    kept = batched_nms(boxes.float(), scores, torch.zeros(len(boxes)), nms_thresh)
    return [cleaned[index] for index in kept.tolist()]


def _cleaned(segment: Segment, height: int, width: int, min_area: int) -> tuple[Segment, bool]:
    """The cleaned segment, and whether nothing had to be done."""
    mask = masks.decode(segment.counts, height, width)
    filled = _toggled(mask, min_area, holes=True)
    clean = _toggled(filled, min_area, holes=False)
    if clean is mask:
        return segment, True
    counts = masks.encode(clean)
    box = masks.bbox_xywh(counts, height, width)
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
