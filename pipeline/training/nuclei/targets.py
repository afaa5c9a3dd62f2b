"""What the net learns to draw, from a label map."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional

WEIGHT_ONE = 80
"""Stored weight that means 1; the range of uint8 then reaches 3.2."""


def rim_distance(label_map: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Distance to the nucleus's rim over the nucleus's largest, 0…255.

    Neighbouring nuclei are outside; the picture's border is not: a nucleus it cuts is taken to go
    on. Being relative, the map survives rotation and zoom: it is computed once and then warped.

    Args:
        label_map: HxW, 0 = none.
    """
    height, width = label_map.shape
    out = np.zeros((height, width), np.uint8)
    for label, (top, bottom, left, right) in _boxes(label_map).items():
        top, left = max(top - 1, 0), max(left - 1, 0)  # noqa: PLW2901
        bottom, right = min(bottom + 1, height), min(right + 1, width)  # noqa: PLW2901
        inside = label_map[top:bottom, left:right] == label
        depth = cv2.distanceTransform(inside.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        scaled = np.rint(depth * (255 / depth.max())).astype(np.uint8)
        np.copyto(out[top:bottom, left:right], scaled, where=inside)
    return out


def _boxes(label_map: npt.NDArray[np.uint16]) -> dict[int, tuple[int, int, int, int]]:
    """label → (top, bottom, left, right), ends exclusive."""
    from scipy.ndimage import find_objects

    return {
        index + 1: (box[0].start, box[0].stop, box[1].start, box[1].stop)
        for index, box in enumerate(find_objects(label_map.astype(np.int32)))
        if box is not None
    }


def touching(label_map: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
    """HxW: pixels that have two different nuclei within two pixels."""
    window = np.ones((5, 5), np.uint8)
    most = cv2.dilate(label_map, window)
    least = cv2.erode(np.where(label_map == 0, np.uint16(65535), label_map), window)
    return (most != least) & (least != 65535)


def object_weight(label_map: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """HxW, 1…3: small nuclei and their rims weigh more, as each nucleus counts once in a score."""
    area = np.bincount(label_map.ravel())
    weight = np.clip(24 / np.sqrt(np.maximum(area, 1)), 1, 3).astype(np.float32)
    weight[0] = 1
    return cv2.dilate(weight[label_map], np.ones((5, 5), np.uint8)).astype(np.float32)


def target_planes(
    label_map: npt.NDArray[np.uint16], distance: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """4xHxW uint8: interior 0/1, touching 0/1, distance 0…255, weight in 1/80.

    Args:
        label_map: HxW, already warped.
        distance: HxW, `rim_distance` of the unwarped map, warped.
    """
    inside = label_map > 0
    return np.stack(
        [
            inside.astype(np.uint8),
            touching(label_map).astype(np.uint8),
            np.where(inside, distance, 0).astype(np.uint8),
            np.rint(object_weight(label_map) * WEIGHT_ONE).astype(np.uint8),
        ]
    )


# What the net is punished for.

_TOUCH_FACTOR = 5.0
"""Pixels between touching nuclei are rare: a missed one costs as much as five false ones."""


def map_loss(logits: Tensor, planes: Tensor) -> Tensor:
    """Interior: cross-entropy and Dice; touching: cross-entropy; distance: absolute error.

    Args:
        logits: Bx3xHxW: interior, touching, distance, before the sigmoid.
        planes: Bx4xHxW uint8, see `target_planes`.

    Returns:
        A scalar.
    """
    logits = logits.float()
    interior, touch = planes[:, 0].float(), planes[:, 1].float()
    distance = planes[:, 2].float() / 255
    weight = planes[:, 3].float() / WEIGHT_ONE
    weight = weight / weight.mean().clamp(min=1e-3)
    entropy = functional.binary_cross_entropy_with_logits(logits[:, 0], interior, weight)
    inside = logits[:, 0].sigmoid() * weight
    dice = 1 - (2 * (inside * interior).sum() + 1) / (inside.sum() + (weight * interior).sum() + 1)
    between = functional.binary_cross_entropy_with_logits(
        logits[:, 1], touch, weight * (1 + (_TOUCH_FACTOR - 1) * touch)
    )
    # Background is most of a picture; half of this term looks at nuclei alone.
    error = (logits[:, 2].sigmoid() - distance).abs() * weight
    inner = (error * interior).sum() / (weight * interior).sum().clamp(min=1)
    return entropy + 0.5 * dice + between + error.mean() + inner
