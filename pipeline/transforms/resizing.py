"""A picture at another size, and the way back for positions."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from schemas.preprocess_config import Resize
from schemas.records import Placement

Pixels = npt.NDArray[np.uint8]


def place(height: int, width: int, step: Resize) -> Placement:
    """Where a picture lies after a resize.

    Args:
        height: Of the picture, pixels.
        width: Likewise.
        step: How.
    """
    picture, (tall, wide) = (height, width), step.size_hw()
    if step.mode == "stretch":
        return Placement(picture, (tall, wide), (tall, wide))
    if step.mode == "shortest":
        scale = tall / min(picture)
        content = _scaled(picture, scale)
        return Placement(picture, content, content)
    content = _scaled(picture, min(tall / height, wide / width))
    content = min(content[0], tall), min(content[1], wide)
    offset = (tall - content[0]) // 2, (wide - content[1]) // 2
    return Placement(picture, content, (tall, wide), offset)


def resize(pixels: Pixels, placement: Placement, *, fill: int) -> Pixels:
    """The picture as `placement` says, HWC; averaged where it shrinks, linear where it grows."""
    height, width = placement.content_hw
    shrinks = height <= pixels.shape[0] and width <= pixels.shape[1]
    content = pixels
    if pixels.shape[:2] != (height, width):
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        content = np.asarray(cv2.resize(pixels, (width, height), interpolation=way), np.uint8)
    if placement.input_hw == placement.content_hw:
        return content
    canvas = np.full((*placement.input_hw, pixels.shape[2]), fill, np.uint8)
    top, left = placement.offset_yx
    canvas[top : top + height, left : left + width] = content
    return canvas


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    height, width = (max(round(side * scale), 1) for side in size)
    return height, width
