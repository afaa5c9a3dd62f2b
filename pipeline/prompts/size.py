"""Size: a file's statement of a picture's size, held against the upright picture.

Prompts in pixels of another picture give masks of something else, and nothing about them looks
wrong. The two common causes are a tool that ignores EXIF orientation and boxes made for a copy of
another size. Which of them it is, numbers alone cannot say: Label Studio writes upright boxes
beside the raw size (HumanSignal/label-studio issue 6608). So a contradiction fails the picture
unless the job says what the file means.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import cv2
import numpy as np

from pipeline.masks import codec
from schemas.records import Prompt

Size = tuple[int, int]
"""(height, width), pixels."""

OnMismatch = Literal["fail", "scale", "turn"]
TURNED = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""


def file_size(height: Any, width: Any) -> Size | None:
    """The size that a file states; None where it states none (missing, 0, text)."""
    whole = all(
        isinstance(side, int | float) and not isinstance(side, bool) and side >= 1
        for side in (height, width)
    )
    return (int(height), int(width)) if whole else None


def own_size(height: Any, width: Any) -> Size | None:
    """As `file_size`, of a file that nobody has to fill in: what is said must be a size.

    Raises:
        ValueError: One side alone, or what is no number of pixels.
    """
    if height is None and width is None:
        return None
    try:
        size = file_size(
            *(None if isinstance(each, bool) else float(each) for each in (height, width))
        )
    except (TypeError, ValueError):
        size = None
    if size is None:
        raise ValueError(
            f"image_width and image_height must both be numbers of pixels, got {width!r} and "
            f"{height!r}"
        )
    return size


def state_size(sizes: dict[str, Size], name: str, size: Size) -> None:
    """Notes what an entry says of its picture's size.

    Raises:
        ValueError: An earlier entry says otherwise.
    """
    if sizes.setdefault(name, size) != size:
        raise ValueError(f"{name} has the size {_text(size)} here and {_text(sizes[name])} before")


def frame_of(stated: Size | None, upright: Size, orientation: int, how: OnMismatch) -> Size:
    """The frame that a picture's prompts are in, (height, width).

    Args:
        stated: By the file, or None: then the upright picture's.
        upright: Of the picture after EXIF rotation.
        orientation: EXIF orientation that was applied, 1…8.
        how: What the job says that a contradiction means. With "turn" the file's pixels are the
            stored ones wherever its size is the stored size, also of pictures that are square or
            turned by 180°, whose size contradicts nothing.

    Returns:
        `upright`, or where the prompts must be moved: the file's.

    Raises:
        ValueError: The file contradicts the picture; says how.
    """
    if stated is None or (stated == upright and how != "turn"):
        return upright
    stored = _stored(upright, orientation)
    if how == "turn" and stated in (stored, upright):
        return stated
    if how == "scale" and _is_scaled(stated, upright):
        return stated
    raise ValueError(
        f"the file says {_text(stated)}, the upright picture is {_text(upright)}"
        f"{_guess(stated, upright)}"
    )


def moved(prompt: Prompt, stated: Size, upright: Size, orientation: int, how: OnMismatch) -> Prompt:
    """A prompt of the file's frame in pixels of the upright picture; see `frame_of`."""
    stored = _stored(upright, orientation)
    if how == "turn":
        if stated != stored or orientation == 1:
            return prompt

        def place(x: float, y: float) -> tuple[float, float]:
            return _upright(x, y, stored, orientation)
    else:
        down, across = upright[0] / stated[0], upright[1] / stated[1]

        def place(x: float, y: float) -> tuple[float, float]:
            return x * across, y * down

    box, counts = prompt.bbox_xyxy, prompt.counts
    if box is not None:
        (x0, y0), (x1, y1) = place(box[0], box[1]), place(box[2], box[3])
        box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    if counts is not None:
        mask = codec.decode(counts, *stated)
        if how == "turn":
            mask = _turned(mask, orientation)
        else:
            mask = cv2.resize(mask, upright[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        counts = codec.encode(mask)
    points = tuple(place(x, y) for x, y in prompt.points_xy)
    return replace(prompt, bbox_xyxy=box, points_xy=points, counts=counts)


def _is_scaled(stated: Size, upright: Size) -> bool:
    """Whether one is the other at another scale, within the rounding of a side to whole pixels."""
    (h, w), (tall, wide) = stated, upright
    scale = max(tall / h, wide / w)
    return abs(h * scale - tall) <= max(scale, 1) and abs(w * scale - wide) <= max(scale, 1)


def _guess(stated: Size, upright: Size) -> str:
    if stated == upright[::-1]:
        return ": these look like unturned pixels (prompts.on_size_mismatch = fail, scale or turn)"
    if _is_scaled(stated, upright):
        return (
            f": these look like pixels of a copy {stated[1] / upright[1]:.3g} times as large "
            "(prompts.on_size_mismatch = fail, scale or turn)"
        )
    return ": these look like another picture"


def _text(size: Size) -> str:
    return f"{size[1]}×{size[0]}"


def _stored(upright: Size, orientation: int) -> Size:
    return (upright[1], upright[0]) if orientation in TURNED else upright


def _upright(x: float, y: float, stored: Size, orientation: int) -> tuple[float, float]:
    """A position of the stored picture in the upright one, as EXIF's tag 274 says."""
    height, width = stored
    return {
        1: (x, y),
        2: (width - x, y),
        3: (width - x, height - y),
        4: (x, height - y),
        5: (y, x),
        6: (height - y, x),
        7: (height - y, width - x),
        8: (y, width - x),
    }[orientation]


def _turned(mask: np.ndarray[Any, np.dtype[np.uint8]], orientation: int) -> Any:
    """A mask of the stored picture, upright."""
    turned = {
        1: mask,
        2: mask[:, ::-1],
        3: mask[::-1, ::-1],
        4: mask[::-1],
        5: mask.T,
        6: mask.T[:, ::-1],
        7: mask[::-1, ::-1].T,
        8: mask.T[::-1],
    }[orientation]
    return np.ascontiguousarray(turned)
